"""Gumbel noise: argmax(logits + noise) is one draw from softmax(logits), the k largest are k without replacement."""

from __future__ import annotations

from torch import Tensor

from sepo.typing import Float

SMALLEST = 2.0**-54
"""Half of the smallest positive number that `Chance` draws, in place of 0."""


def gumbel(uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """From uniform numbers in [0, 1), in float64; finite."""
    return -(-uniform.double().clamp_min(SMALLEST).log()).log()
