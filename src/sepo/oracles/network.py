"""Convolutional oracles: a sequence in one-hot form, a number out. Two architectures, so that a judge is not a twin.

`motifs`: wide filters and a second layer. `dilated`: the same filters, normalised over the batch and pooled, then
residual blocks of growing dilation. Both keep the largest and the mean response of every channel in each of a few
stretches of the sequence, so that it matters where a motif stands, and end in a perceptron. Both take soft tokens, rows
of probabilities, and have a gradient in them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel

ARCHITECTURES = ("motifs", "dilated")
STRETCHES = 8
POOLED = 4
"""Neighbouring letters of which `dilated` keeps the largest response of a filter, before its blocks."""
OneHot = Float[Tensor, "batch length letters"]


class ConvOracleConfig(PretrainedConfig):
    """letters: the alphabet; mean, deviation: of the activities it was fitted to, whose unit is that of its answers."""

    model_type = "sepo_oracle"

    def __init__(
        self,
        letters: str = "ACGT",
        architecture: str = "motifs",
        hidden_size: int = 64,
        kernel: int = 13,
        layers: int = 4,
        dropout: float = 0.2,
        mean: float = 0.0,
        deviation: float = 1.0,
        **kwargs,
    ) -> None:
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture={architecture!r}: choose one of {', '.join(ARCHITECTURES)}.")
        self.letters = letters
        self.architecture = architecture
        self.hidden_size = hidden_size
        self.kernel = kernel
        self.layers = layers
        self.dropout = dropout
        self.mean = mean
        self.deviation = deviation
        super().__init__(**kwargs)


class Mix(nn.Conv1d):
    """Of channels, at each place. Begins at 0, and so a residual network as what stands around its blocks."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 1)


class Dilated(nn.Module):
    """A residual block: batch norm, convolution of width 3 and some dilation, mix of channels."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix, self.dropout = Mix(width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.dropout(functional.gelu(self.conv(self.norm(x)))))


class ConvOracle(PreTrainedModel):
    """one-hot -> activity [batch], in the unit of the table."""

    config_class = ConvOracleConfig
    main_input_name = "onehot"

    def __init__(self, config: ConvOracleConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.filters = nn.Conv1d(len(config.letters), width, config.kernel, padding=config.kernel // 2)
        if config.architecture == "motifs":
            self.norm: nn.Module = nn.Identity()
            body: list[nn.Module] = [nn.Conv1d(width, width, 5, padding=2), nn.GELU(), nn.Dropout(config.dropout)]
        else:
            self.norm = nn.BatchNorm1d(width)
            blocks = (Dilated(width, 2**layer, config.dropout) for layer in range(config.layers))
            body = [nn.MaxPool1d(POOLED, ceil_mode=True), *blocks, nn.BatchNorm1d(width), nn.GELU()]
        self.body = nn.Sequential(*body)
        self.head = nn.Sequential(
            nn.Linear(2 * STRETCHES * width, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, 1)
        )
        self.post_init()

    def forward(self, onehot: OneHot) -> Float[Tensor, " batch"]:
        return self.standardised(onehot) * self.config.deviation + self.config.mean

    def standardised(self, onehot: OneHot) -> Float[Tensor, " batch"]:
        """The activity in deviations from the mean."""
        x = self.body(functional.gelu(self.norm(self.filters(onehot.transpose(1, 2)))))
        pooled = (
            pool(x, STRETCHES).flatten(1) for pool in (functional.adaptive_max_pool1d, functional.adaptive_avg_pool1d)
        )
        return self.head(torch.cat([*pooled], dim=1)).squeeze(1)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            if isinstance(module, Mix):
                nn.init.zeros_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
