r"""The diffusion transformer of SEDD, MDLM and UDLM: one network, with the tensor names of their checkpoints.

    c = silu(NoiseLevel(sigma)) [+ silu(class)];  for each block:  (sh1, sc1, g1, sh2, sc2, g2) = A c + a
    x <- x + g1 W_o attention(rotary(LN(x) (1 + sc1) + sh1));   x <- x + g2 MLP(LN(x) (1 + sc2) + sh2)
    logits = W (LN(x) (1 + sc) + sh) + b

Score Entropy Discrete Diffusion (arXiv 2310.16834, appendix C.2), Simple and Effective Masked Diffusion Language Models
(arXiv 2406.07524), Simple Guidance Mechanisms for Discrete Diffusion Models (arXiv 2412.10193); adaLN: arXiv
2212.09748. Layer norms have no bias and run in float32.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from sepo.models.networks.attention import LayerCache, RotaryTable, Seen, attention, rotation
from sepo.models.networks.key_values import CachedLayers
from sepo.models.networks.noise_level import NoiseLevel
from sepo.models.networks.silent import SilentLinear, silence
from sepo.ops import rows
from sepo.typing import LogProbs, Sites, Time, Tokens

Hidden = Float[Tensor, "batch length width"]


class DiTConfig(PretrainedConfig):
    """The defaults are SEDD-small and mdlm-owt: 169,627,218 parameters.

    num_classes: that the network can be told of, 0: it has no table of classes; condition: the one that it is told of,
    None: none, which is class `num_classes` of its table, as in its training.
    """

    model_type = "sepo_dit"

    def __init__(
        self,
        vocab_size: int = 50_258,
        length: int = 1024,
        hidden_size: int = 768,
        cond_dim: int = 128,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        dropout: float = 0.1,
        time_conditioning: bool = False,
        num_classes: int = 0,
        condition: int | None = None,
        **kwargs,
    ) -> None:
        if hidden_size % (2 * num_attention_heads):
            raise ValueError(
                f"hidden_size={hidden_size} with {num_attention_heads} heads: rotary positions need heads of equal and "
                "even width; make hidden_size a multiple of twice the number of heads."
            )
        if condition is not None and not 0 <= condition < num_classes + (num_classes > 0):
            known = f"0 to {num_classes - 1}, and {num_classes} stands for none of them" if num_classes else "none"
            raise ValueError(
                f"condition={condition}: the classes of this network are {known}; choose one, or leave it out."
            )
        self.vocab_size = vocab_size
        self.length = length
        self.hidden_size = hidden_size
        self.cond_dim = cond_dim
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.dropout = dropout
        self.time_conditioning = time_conditioning
        self.num_classes = num_classes
        self.condition = condition
        super().__init__(**kwargs)


class ScaleNorm(nn.Module):
    """Layer norm with a weight and no bias, in float32; the result has the dtype of the weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Hidden) -> Hidden:
        normed = functional.layer_norm(x.float(), (x.shape[-1],), eps=1e-5)
        return (normed * self.weight.float()).to(self.weight.dtype)


class Block(GradientCheckpointingLayer):
    """Attention and a perceptron, each shifted, scaled and gated by the noise level."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, nn.Dropout(config.dropout)
        self.norm1 = ScaleNorm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.norm2 = ScaleNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.adaLN_modulation = SilentLinear(config.cond_dim, 6 * width)

    def forward(
        self, x: Hidden, condition: Tensor, turned: Tensor, attend: Seen | None, cache: LayerCache | None = None
    ) -> Hidden:
        modulation = self.adaLN_modulation(condition).unsqueeze(1).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        mixed = attention(self.attn_qkv(self.norm1(x) * (1 + scale1) + shift1), self.heads, turned, attend, cache)
        x = x + gate1 * self.dropout(self.attn_out(mixed))
        return x + gate2 * self.dropout(self.mlp(self.norm2(x) * (1 + scale2) + shift2))


class Head(nn.Module):
    """Logits from hidden states."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm_final = ScaleNorm(config.hidden_size)
        self.linear = SilentLinear(config.hidden_size, config.vocab_size)
        self.adaLN_modulation = SilentLinear(config.cond_dim, 2 * config.hidden_size)

    def forward(self, x: Hidden, condition: Tensor) -> LogProbs:
        shift, scale = self.adaLN_modulation(condition).unsqueeze(1).chunk(2, dim=-1)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


class TokenTable(nn.Module):
    """Token embeddings under the name that the published checkpoints use: a bare parameter, not tied to the head."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(size, width))

    def forward(self, tokens: Tokens) -> Hidden:
        return functional.embedding(tokens, self.embedding)


class ClassTable(nn.Module):
    """Class embeddings under the name that the published checkpoints use; the last row stands for no class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, condition: int | None) -> Float[Tensor, " width"]:
        weight = self.embedding_table.weight
        return weight[len(weight) - 1 if condition is None else condition]


class DiT(PreTrainedModel):
    """xt -> logits. A network without time conditioning is given sigma = 0."""

    config_class = DiTConfig
    main_input_name = "xt"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012 (transformers' name)

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        self.vocab_embed = TokenTable(config.vocab_size, config.hidden_size)
        self.sigma_map = NoiseLevel(config.cond_dim)
        self.cond_map = ClassTable(config.num_classes, config.cond_dim) if config.num_classes else None
        self.rotary_emb = RotaryTable(config.hidden_size // config.num_attention_heads)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.output_layer = Head(config)
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
        if sigma is None and self.config.time_conditioning:
            raise ValueError("sigma=None: this network was trained with time conditioning; give sigma [batch].")
        if sigma is None or not self.config.time_conditioning:
            sigma = torch.zeros(len(xt), device=xt.device)
        condition = functional.silu(self.sigma_map(sigma))
        if self.cond_map is not None:
            condition = condition + functional.silu(self.cond_map(self.config.condition))
        x, place = self.vocab_embed(xt), torch.arange(xt.shape[1], device=xt.device).unsqueeze(0)
        if cache is not None:
            x, place = cache.computed(x), cache.computed(place.expand_as(xt))
            sites = None if sites is None else cache.columns(sites)
        turned = rotation(place, self.rotary_emb.inv_freq)
        for index, block in enumerate(self.blocks):
            x = block(x, condition, turned, attend, None if cache is None else cache.layer(index))
        return self.output_layer(x if sites is None else rows(x, sites), condition)

    def get_input_embeddings(self) -> nn.Module:
        return self.vocab_embed

    def get_output_embeddings(self) -> nn.Module:
        return self.output_layer.linear

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Modulations and the head start at zero: each block is the identity and the first guess is uniform."""
        if isinstance(module, TokenTable):
            nn.init.kaiming_uniform_(module.embedding, a=math.sqrt(5))
        elif isinstance(module, SilentLinear):
            silence(module)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, ScaleNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
