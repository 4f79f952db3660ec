"""Layers that start at zero: a residual block that ends in one is the identity at first, a head guesses uniformly.

They have a type of their own because transformers initialises a model leaf by leaf, and passes over modules that only
hold others.
"""

from __future__ import annotations

import torch
from torch import nn


class SilentLinear(nn.Linear):
    """A linear layer whose weight and bias start at zero."""


class SilentConv2d(nn.Conv2d):
    """A convolution whose weight and bias start at zero."""


@torch.no_grad()
def silence(layer: SilentLinear | SilentConv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
