r"""From returns to advantages: centred by a baseline, then scaled.

    mean           A_j = R_j - mean(group)                (GRPO, arXiv 2402.03300; scales the gradient by (G - 1) / G)
    leave_one_out  A_j = R_j - mean(group without j)      (RLOO, arXiv 2402.14740; unbiased)
    none           A_j = R_j

A return that is NaN (no reward applied) takes no part in its group's statistics and has advantage 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepo.objectives.baselines import Features, StateRegression

Returns = Float[Tensor, "batch *steps"]
Grouped = Float[Tensor, "groups size steps"]
"""Returns from each step of each sequence on; one step where only whole sequences have a return."""


def mean(returns: Grouped) -> Grouped:
    return returns.nanmean(1, keepdim=True).expand_as(returns)


def leave_one_out(returns: Grouped) -> Grouped:
    count = (~returns.isnan()).sum(1, keepdim=True)
    known = returns.masked_fill(returns.isnan(), 0.0)
    return torch.where(count > 1, (known.sum(1, keepdim=True) - known) / (count - 1).clamp_min(1), known)


def none(returns: Grouped) -> Grouped:
    return torch.zeros_like(returns)


def log_mean_exp(scaled: Grouped) -> Grouped:
    """log of the mean over the group of exp, sequences without a return left out."""
    count = (~scaled.isnan()).sum(1, keepdim=True)
    known = scaled.masked_fill(scaled.isnan(), -torch.inf)
    return (known.logsumexp(1, keepdim=True) - count.log()).expand_as(scaled)


def group(returns: Grouped) -> Grouped:
    """Standard deviation within each group, of the returns of whole sequences."""
    return _deviation(returns[:, :, :1]).expand_as(returns)


def batch(returns: Grouped) -> Grouped:
    """Standard deviation over all sequences of the collection."""
    return _deviation(returns[:, :, :1].reshape(1, -1, 1))[:, :1].expand_as(returns)


def unit(returns: Grouped) -> Grouped:
    return torch.ones_like(returns)


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "leave_one_out": leave_one_out, "none": none}
SCALES: dict[str, Callable[[Tensor], Tensor]] = {"group": group, "batch": batch, "none": unit}


@dataclass(frozen=True)
class Advantage:
    """baseline, scale: functions of the returns in groups, [groups size steps]; `eps` keeps equal returns finite.

    states: a regression on states, which takes away what they have already decided.
    """

    baseline: Callable[[Tensor], Tensor] = mean
    scale: Callable[[Tensor], Tensor] = group
    eps: float = 1e-4
    states: StateRegression | None = None

    def __call__(self, returns: Returns, size: int, features: Features | None = None) -> Returns:
        """Returns of sequences [batch], or from each step on [batch steps], in consecutive groups of `size`.

        features: of the state before each step; what they tell of the return is subtracted first, if there is a
        regression.

        Raises:
            ValueError: the batch is not a whole number of groups, or a return is infinite.
        """
        require_groups(returns, size)
        grouped = returns.reshape(len(returns) // size, size, -1)
        eps = 0.0 if self.scale is unit else self.eps
        left = grouped
        if self.states is not None and features is not None and returns.ndim == 2:
            left = grouped - self.states(features, returns, size).reshape(grouped.shape)
        advantage = (left - self.baseline(left)) / (self.scale(grouped) + eps)
        return advantage.masked_fill(grouped.isnan(), 0.0).reshape(returns.shape)


def require_groups(returns: Tensor, size: int) -> None:
    """
    Raises:
        ValueError: the batch is not a whole number of groups, or a return is infinite.
    """
    if size < 1 or len(returns) % size:
        raise ValueError(
            f"{len(returns)} returns do not make whole groups of {size}; choose a divisor as num_generations."
        )
    if returns.isinf().any():
        row = int(returns.reshape(len(returns), -1).isinf().any(1).nonzero()[0])
        raise ValueError(
            f"Return {row} is {returns[row].flatten()[0].item()}; a sequence without a return is marked by NaN."
        )


def _deviation(returns: Tensor) -> Tensor:
    count = (~returns.isnan()).sum(1, keepdim=True)
    centred = (returns - returns.nanmean(1, keepdim=True)).masked_fill(returns.isnan(), 0.0)
    return (centred.square().sum(1, keepdim=True) / (count - 1).clamp_min(1)).sqrt().expand_as(returns)
