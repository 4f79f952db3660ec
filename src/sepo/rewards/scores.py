"""Scores: what a batch of completions is worth, by each reward and in total.

total_b = sum over the rewards f that apply to b of  weight_f reward_bf;  NaN where none applies
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sepo.typing import Float, PerSequence

PerReward = Float[Tensor, "batch reward"]


@dataclass(frozen=True, eq=False)
class Scores:
    """The rewards of a batch, on the CPU in float64. NaN means *not applicable*: the completion takes no part.

    Args:
        per_function: one column per reward.
        total: the weighted sum of those that apply, NaN if none does.
        names: of the columns.
        metrics: numbers to log: `reward_metrics`, counts of retries, and what the rewards gave to `log_metric`.
        extras: the columns that the rewards gave to `log_extra`.
    """

    per_function: PerReward
    total: PerSequence
    names: tuple[str, ...]
    metrics: dict[str, float] = field(default_factory=dict)
    extras: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.total)

    def by_name(self) -> dict[str, list[float | None]]:
        """One list per reward with None for *not applicable*, as the table of completions holds them."""
        columns = self.per_function.T.tolist()
        return {
            name: [None if value != value else value for value in column]
            for name, column in zip(self.names, columns, strict=True)
        }


def weighted_total(per_function: PerReward, weights: Sequence[float | int]) -> PerSequence:
    """The weighted sum of the rewards that apply; NaN where none does.

    A reward of weight 0 is only watched: it does not make a completion rewarded.
    """
    weight = per_function.new_tensor(list(weights))
    applies = ~per_function.isnan() & (weight != 0)
    summed = (per_function.masked_fill(~applies, 0.0) * weight).sum(1)
    return summed.masked_fill(~applies.any(1), torch.nan)


def reward_metrics(names: Sequence[str], per_function: PerReward, total: PerSequence) -> dict[str, float]:
    """TRL's `rewards/{name}/mean` and `/std` (n - 1 in the denominator; 0 for one value) over the completions that a
    reward applies to, NaN if there are none; `frac_reward_none`, the share of completions to which no reward applies.

    Means of means are wrong where None is: over several processes, gather the scores first.
    """
    metrics = {}
    for name, column in zip(names, per_function.double().T, strict=True):
        values = column[~column.isnan()]
        metrics[f"rewards/{name}/mean"] = values.mean().item()
        metrics[f"rewards/{name}/std"] = 0.0 if len(values) == 1 else values.std().item() if len(values) else torch.nan
    metrics["frac_reward_none"] = total.isnan().double().mean().item()
    return metrics
