"""Bidirectional attention over a padded batch, with rotary positions on queries and keys.

Rotary position embedding, half-rotation form (RoFormer, arXiv 2104.09864, eq. 34): the pair (u_k, u_{k + d/2}) is
turned by the angle position * base^(-2k/d). The angles are computed in float32, once for all layers of a
forward: bfloat16 cannot tell neighbouring positions apart at length 1,024.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

Heads = Float[Tensor, "batch heads length width"]

Rotation = Float[Tensor, "2 rows 1 length half"]
"""Cosine and sine of the angles of each pair of channels, of all rows alike (1 row) or of each."""

Seen = Bool[Tensor, "batch seen"]
"""Which sites are attended to: as many as there are keys, whatever the number of queries."""

LayerCache = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Keys and values of the sites that a layer computed -> those of all sites that it attends to."""


def frequencies(width: int, base: float, device: torch.device | str | None = None) -> Float[Tensor, " half"]:
    """base^(-2k/width) for k = 0 .. width/2 - 1, in radians per position."""
    return 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)


def rotation(positions: Int[Tensor, "rows length"], frequency: Float[Tensor, " half"]) -> Rotation:
    """Of the angles position * frequency, in float32."""
    angle = positions.to(torch.float32).unsqueeze(-1) * frequency.float().to(positions.device)
    return torch.stack((angle.cos(), angle.sin())).unsqueeze(2)


def turn(values: Heads, turned: Rotation) -> Heads:
    """`values` with every pair of channels turned by its angle."""
    cosine, sine = turned.to(values.dtype).unbind()
    first, second = values.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def attention(
    qkv: Float[Tensor, "batch length _"],
    heads: int,
    turned: Rotation | None,
    attend: Seen | None,
    cache: LayerCache | None = None,
) -> Float[Tensor, "batch length _"]:
    """Softmax attention of every site to every site that `attend` allows; q, k, v lie one after the other in `qkv`.

    turned: the rotary embedding, or None for none; cache: keeps keys and values, and adds those of the sites that `qkv`
    lacks. Scale 1/sqrt(width of a head).
    """
    batch, length, triple = qkv.shape
    query, key, value = qkv.view(batch, length, 3, heads, triple // (3 * heads)).permute(2, 0, 3, 1, 4)
    if turned is not None:
        query, key = turn(query, turned), turn(key, turned)
    if cache is not None:
        key, value = cache(key, value)
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
