r"""A bidirectional transformer with pluggable positions, time-free unless told otherwise.

    x = E[xt] + position (+ NoiseLevel(sigma));  x <- x + W_o attention(LN(x));  x <- x + MLP(LN(x))
    logits = W LN(x) + b

Pre-norm blocks (On Layer Normalization in the Transformer Architecture, arXiv 2002.04745).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from sepo.models.networks.attention import LayerCache, Seen, attention, frequencies, rotation
from sepo.models.networks.key_values import CachedLayers
from sepo.models.networks.noise_level import NoiseLevel
from sepo.models.networks.positions import Learned, Position, PositionTable, Rotary, from_json, to_json
from sepo.models.networks.silent import SilentLinear, silence
from sepo.ops import rows
from sepo.typing import Sites, Time, Tokens

Hidden = Float[Tensor, "batch length width"]


class TransformerConfig(PretrainedConfig):
    """position: Learned(length), Rotary(base) or Grid(height, width, box_height, box_width); None is Learned(64).

    config.json holds its kind and fields.
    """

    model_type = "sepo_transformer"

    def __init__(
        self,
        vocab_size: int = 32,
        position: Position | dict | None = None,
        hidden_size: int = 64,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        dropout: float = 0.0,
        time_conditioning: bool = False,
        **kwargs,
    ) -> None:
        placed = from_json(position) if isinstance(position, dict) else position or Learned(64)
        if hidden_size % (2 * num_attention_heads):
            raise ValueError(
                f"hidden_size={hidden_size} with {num_attention_heads} heads: heads need equal and even width; make "
                "hidden_size a multiple of twice the number of heads."
            )
        self.vocab_size = vocab_size
        self.position = to_json(placed)
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.dropout = dropout
        self.time_conditioning = time_conditioning
        super().__init__(**kwargs)


class Layer(GradientCheckpointingLayer):
    """Attention and a perceptron, each after a norm and added to the stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, nn.Dropout(config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Hidden, turned: Tensor | None, attend: Seen | None, cache: LayerCache | None = None) -> Hidden:
        x = x + self.dropout(self.out(attention(self.qkv(self.norm1(x)), self.heads, turned, attend, cache)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Transformer(PreTrainedModel):
    """xt -> logits."""

    config_class = TransformerConfig
    main_input_name = "xt"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Layer"]  # noqa: RUF012 (transformers' name)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = PositionTable(from_json(config.position), config.hidden_size)
        self.noise_level = NoiseLevel(config.hidden_size) if config.time_conditioning else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = SilentLinear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(
        self,
        xt: Tokens,
        sigma: Time | None = None,
        attend: Sites | None = None,
        sites: Int[Tensor, "batch k"] | None = None,
        cache: CachedLayers | None = None,
    ) -> Float[Tensor, "batch sites vocab"]:
        """sites: where the head reads; cache: says which sites are computed, and keeps keys and values."""
        x, place = self.positions(self.embedding(xt)), torch.arange(xt.shape[1], device=xt.device).unsqueeze(0)
        if self.noise_level is not None:
            if sigma is None:
                raise ValueError("sigma=None: this network was trained with time conditioning; give sigma [batch].")
            x = x + self.noise_level(sigma).unsqueeze(1)
        if cache is not None:
            x, place = cache.computed(x), cache.computed(place.expand_as(xt))
            sites = None if sites is None else cache.columns(sites)
        turned = None
        if isinstance(self.positions.position, Rotary):
            width = self.config.hidden_size // self.config.num_attention_heads
            turned = rotation(place, frequencies(width, self.positions.position.base, xt.device))
        for index, layer in enumerate(self.layers):
            x = layer(x, turned, attend, None if cache is None else cache.layer(index))
        return self.head(self.norm(x if sites is None else rows(x, sites)))

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, SilentLinear):
            silence(module)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
