r"""The dilated convolutional denoiser of DNA, with the tensor names and shapes of the DRAKES checkpoints.

    feat = relu(conv(onehot));  for l = 0 .. 19:  feat <- feat + relu(conv_l(LN(dropout(feat) + time_l)))
    logits = conv1x1(relu(conv1x1(feat)))

Dilations 1, 1, 4, 16, 64, each `stacks` times in a row (Fine-Tuning Discrete Diffusion Models via Reward Optimization,
arXiv 2410.13643; Dirichlet Flow Matching, arXiv 2402.05841, appendix C). There is no positional input: the network
knows the borders by their zero padding, so that the length matters, and padded sites are made to look like what lies
beyond a border.

Features stay [batch, length, width] throughout, so that the norms need no transposition and the convolutions run in
channels-last layout, on a CPU about twice as fast as torch's Conv1d (`benchmarks/dna_speed.py`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel

from sepo.ops import rows
from sepo.typing import LogProbs, Sites, Time, Tokens

DILATIONS = (1, 1, 4, 16, 64)
KERNEL = 9
Features = Float[Tensor, "batch length width"]


class DnaCnnConfig(PretrainedConfig):
    """The defaults are the DRAKES enhancer model: 3,326,661 parameters."""

    model_type = "sepo_dna_cnn"

    def __init__(
        self,
        vocab_size: int = 5,
        length: int = 200,
        hidden_size: int = 128,
        stacks: int = 4,
        dropout: float = 0.0,
        time_conditioning: bool = False,
        **kwargs,
    ) -> None:
        if hidden_size % 2:
            raise ValueError(f"hidden_size={hidden_size}: half of it are sines and half cosines of time; make it even.")
        self.vocab_size = vocab_size
        self.length = length
        self.hidden_size = hidden_size
        self.stacks = stacks
        self.dropout = dropout
        self.time_conditioning = time_conditioning
        super().__init__(**kwargs)


class Waves(nn.Module):
    """[sin(2 pi t W), cos(2 pi t W)] with random frequencies that are stored but not trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(width // 2), requires_grad=False)

    def forward(self, t: Time) -> Float[Tensor, "batch width"]:
        angle = t.unsqueeze(-1).to(self.W.dtype) * self.W * 2 * math.pi
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class TimeLayer(nn.Module):
    """The dense layer of one convolution's time embedding, under its published name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, embedded: Float[Tensor, "batch width"]) -> Float[Tensor, "batch 1 width"]:
        return self.dense(embedded).unsqueeze(1)


class Convolution(nn.Conv1d):
    """A Conv1d, by name and shape of its tensors, over features [batch, length, channels]."""

    channels_last = True

    def forward(self, input: Float[Tensor, "batch length channels"]) -> Features:
        image = input.transpose(1, 2).unsqueeze(2)
        kernel = self.weight.unsqueeze(2).to(memory_format=torch.channels_last)
        aside: dict[str, Any] = {"padding": (0, *self.padding), "dilation": (1, *self.dilation)}
        out = functional.conv2d(image, kernel, self.bias, **aside)
        return out.squeeze(2).transpose(1, 2)


class DnaCnn(PreTrainedModel):
    """xt, as ids [batch length] or as one-hot floats [batch length vocab] for straight-through gradients -> logits.

    Without time conditioning (as published) the time is 0 whatever sigma says.
    """

    config_class = DnaCnnConfig
    main_input_name = "xt"
    supports_gradient_checkpointing = True

    def __init__(self, config: DnaCnnConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        dilations = [dilation for dilation in DILATIONS for _ in range(config.stacks)]
        self.linear = Convolution(config.vocab_size, width, KERNEL, padding=KERNEL // 2)
        self.time_embedder = nn.Sequential(Waves(width), nn.Linear(width, width))
        self.time_layers = nn.ModuleList(TimeLayer(width) for _ in dilations)
        self.convs = nn.ModuleList(
            Convolution(width, width, KERNEL, dilation=dilation, padding=KERNEL // 2 * dilation)
            for dilation in dilations
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in dilations)
        self.final_conv = nn.Sequential(
            Convolution(width, width, 1), nn.ReLU(), Convolution(width, config.vocab_size, 1)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        xt: Tokens | LogProbs,
        sigma: Time | None = None,
        attend: Sites | None = None,
        sites: Int[Tensor, "batch k"] | None = None,
    ) -> Float[Tensor, "batch sites vocab"]:
        if sigma is None and self.config.time_conditioning:
            raise ValueError("sigma=None: this network was trained with time conditioning; give sigma [batch].")
        if sigma is None or not self.config.time_conditioning:
            sigma = torch.zeros(len(xt), device=xt.device)
        inside = None if attend is None else attend.unsqueeze(2).to(self.dtype)
        letters = xt if xt.is_floating_point() else functional.one_hot(xt.long(), self.config.vocab_size)
        letters = letters.to(self.dtype)
        features = self.linear(letters if inside is None else letters * inside).relu()
        time = self.time_embedder(sigma).relu()
        for layer in range(len(self.convs)):
            if self.gradient_checkpointing and self.training:
                features = self._gradient_checkpointing_func(self._residual, layer, features, time, inside)
            else:
                features = self._residual(layer, features, time, inside)
        if sites is not None:
            features = rows(features, sites)
        return self.final_conv(features)

    def _residual(self, layer: int, features: Features, time: Tensor, inside: Tensor | None) -> Features:
        normed = self.norms[layer](self.dropout(features) + self.time_layers[layer](time))
        return features + self.convs[layer](normed if inside is None else normed * inside).relu()

    def get_input_embeddings(self) -> nn.Module:
        return self.linear

    def get_output_embeddings(self) -> nn.Module:
        return self.final_conv[2]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Waves):
            nn.init.normal_(module.W, std=30.0)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.Linear, nn.Conv1d)) and module.bias is not None:
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            nn.init.zeros_(module.bias)
