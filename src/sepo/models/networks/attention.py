"""Bidirectional attention over a padded batch, with rotary positions on queries and keys.

Rotary position embedding, half-rotation form (RoFormer, arXiv 2104.09864, eq. 34): the pair (u_k, u_{k + d/2}) is
turned by the angle position * base^(-2k/d). The angles are computed in float32 for every call: bfloat16 cannot tell
neighbouring positions apart at length 1,024.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sepo.typing import Sites

Heads = Float[Tensor, "batch heads length width"]


def frequencies(width: int, base: float, device: torch.device | str | None = None) -> Float[Tensor, " half"]:
    """base^(-2k/width) for k = 0 .. width/2 - 1, in radians per position."""
    return 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)


def turn(values: Heads, frequency: Float[Tensor, " half"]) -> Heads:
    """`values` with every pair of channels turned by position * frequency; positions count from 0."""
    positions = torch.arange(values.shape[-2], device=values.device, dtype=torch.float32)
    angle = torch.outer(positions, frequency.float().to(values.device))
    cosine, sine = angle.cos().to(values.dtype), angle.sin().to(values.dtype)
    first, second = values.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def attention(
    qkv: Float[Tensor, "batch length _"], heads: int, frequency: Float[Tensor, " half"] | None, attend: Sites | None
) -> Float[Tensor, "batch length _"]:
    """Softmax attention of every site to every site that `attend` allows; q, k, v lie one after the other in `qkv`.

    frequency: of the rotary embedding, or None for none. Scale 1/sqrt(width of a head).
    """
    batch, length, triple = qkv.shape
    query, key, value = qkv.view(batch, length, 3, heads, triple // (3 * heads)).permute(2, 0, 3, 1, 4)
    if frequency is not None:
        query, key = turn(query, frequency), turn(key, frequency)
    allowed = None if attend is None else attend[:, None, None, :]
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    return mixed.transpose(1, 2).reshape(batch, length, triple // 3)


class RotaryTable(nn.Module):
    """The rotary frequencies as a buffer that is part of the checkpoint and stays float32 whatever the weights are."""

    inv_freq: Tensor

    def __init__(self, width: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.width, self.base = width, base
        self.register_buffer("inv_freq", frequencies(width, base))

    def _apply(self, fn, recurse=True):
        kept = self.inv_freq
        super()._apply(fn, recurse)
        self.inv_freq = self.inv_freq.float() if kept.is_meta else kept.to(self.inv_freq.device)
        return self
