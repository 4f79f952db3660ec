"""Weighted samples: how many they are worth, and how many different ones are left when they are drawn by weight."""

from __future__ import annotations

import torch
from torch import Tensor

from sepo.typing import Float, Tokens


def effective_sample_size(log_weights: Float[Tensor, " batch"]) -> float:
    """(sum w)^2 / sum w^2, between 1 and the number of samples: how many equal weights would have the same variance.

    Raises:
        ValueError: no weight is positive and finite.
    """
    weights = _normalised(log_weights)
    return float(1 / weights.square().sum())


def distinct_after_resampling(tokens: Tokens, log_weights: Float[Tensor, " batch"], number: int | None = None) -> float:
    """The expected share of distinct sequences among `number` that are drawn by weight with replacement, in (0, 1].

    sum over distinct sequences u of (1 - (1 - W_u)^n) / n, W_u the weight of all rows that are u. number: n; None: as
    many as there are rows.

    Raises:
        ValueError: no weight is positive and finite, or nothing is drawn.
    """
    number = len(tokens) if number is None else number
    if number < 1:
        raise ValueError(f"number={number}: at least 1 sequence must be drawn.")
    weights = _normalised(log_weights)
    place = tokens.unique(dim=0, return_inverse=True)[1]
    each = torch.zeros(int(place.max()) + 1, dtype=torch.double, device=weights.device).index_add(0, place, weights)
    return float((1 - (1 - each.clamp_max(1)) ** number).sum() / number)


def _normalised(log_weights: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    largest = float(log_weights.max()) if len(log_weights) else -torch.inf
    if not -torch.inf < largest < torch.inf:
        raise ValueError(
            f"The largest of {len(log_weights)} log-weights is {largest}: at least one must be finite, and none "
            "infinite or NaN."
        )
    return log_weights.double().softmax(0)
