r"""A small convolutional denoiser for images of height x width tokens, made to train in a minute on two CPU cores.

    h = E[xt] + P;   h <- h + conv(silu(norm(conv(mix(silu(norm(h)))))));   logits = W silu(norm(h)) + b

P is a learned vector per site. mix(z) = z + M z with one learned matrix M over the sites, shared by all channels: the
cheapest way to let every site see the whole image (the token mixing of MLP-Mixer, arXiv 2105.01601); it starts at zero.
M has (height width)^2 entries: this network is for small images.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from sepo.models.networks.silent import SilentConv2d, SilentLinear, silence
from sepo.ops import rows
from sepo.typing import Sites, Time, Tokens

GROUPS = 8
Image = Float[Tensor, "batch channels height width"]


class GridConfig(PretrainedConfig):
    """The defaults are for 8 x 8 images of 8 grey levels and a mask: 187,000 parameters."""

    model_type = "sepo_grid"

    def __init__(
        self,
        vocab_size: int = 9,
        height: int = 8,
        width: int = 8,
        hidden_size: int = 48,
        num_hidden_layers: int = 4,
        **kwargs,
    ) -> None:
        if height < 1 or width < 1:
            raise ValueError(f"height={height}, width={width}: an image needs at least one row and one column.")
        if hidden_size % GROUPS:
            raise ValueError(f"hidden_size={hidden_size}: the norms have {GROUPS} groups; give a multiple of {GROUPS}.")
        self.vocab_size = vocab_size
        self.height = height
        self.width = width
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        super().__init__(**kwargs)


class Block(GradientCheckpointingLayer):
    """What is around a site, by a convolution, and what is anywhere in the image, by the mixing matrix."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        channels, sites = config.hidden_size, config.height * config.width
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.mix = SilentLinear(sites, sites)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = SilentConv2d(channels, channels, 3, padding=1)

    def forward(self, h: Image) -> Image:
        z = functional.silu(self.norm1(h))
        z = z + self.mix(z.flatten(2)).view_as(z)
        return h + self.conv2(functional.silu(self.norm2(self.conv1(z))))


class GridNetwork(PreTrainedModel):
    """xt, images read row by row -> logits. It ignores the time, and images have no padding."""

    config_class = GridConfig
    main_input_name = "xt"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012 (transformers' name)

    def __init__(self, config: GridConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.height * config.width, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.GroupNorm(GROUPS, config.hidden_size)
        self.head = SilentLinear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(
        self,
        xt: Tokens,
        sigma: Time | None = None,
        attend: Sites | None = None,
        sites: Int[Tensor, "batch k"] | None = None,
    ) -> Float[Tensor, "batch sites vocab"]:
        height, width = self.config.height, self.config.width
        if xt.shape[1] != height * width:
            raise ValueError(
                f"A sequence of {xt.shape[1]} tokens is no image of {height} x {width}: give {height * width}."
            )
        if attend is not None:
            raise ValueError(
                "attend is given, but images have no padding: leave it None and mark given pixels as not free."
            )
        h = (self.embedding(xt) + self.positions.weight).transpose(1, 2).unflatten(2, (height, width))
        for block in self.blocks:
            h = block(h)
        hidden = functional.silu(self.norm(h)).flatten(2).transpose(1, 2)
        return self.head(hidden if sites is None else rows(hidden, sites))

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Every block starts as the identity, and the first guess is uniform."""
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02 if module is self.positions else 1.0)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, (SilentLinear, SilentConv2d)):
            silence(module)
        elif isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            nn.init.zeros_(module.bias)
