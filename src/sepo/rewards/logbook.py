"""What a reward logs beside its values: `log_metric(name, value)` and `log_extra(column, values)`, as in TRL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sepo.rewards.errors import RewardError
from sepo.rewards.messages import shortened
from sepo.rewards.values import as_number


@dataclass(frozen=True, eq=False)
class Logbook:
    """The pages of one call of one reward. A call that fails, or comes too late, loses its pages with it."""

    metrics: dict[str, list[float]] = field(default_factory=dict)
    extras: dict[str, list[Any]] = field(default_factory=dict)

    def log_metric(self, name: str, value: Any) -> None:
        """A number for the step's metrics; of several calls with one name the mean is logged.

        Raises:
            ValueError: the value is not a number.
        """
        number = as_number(value)
        if number is None:
            raise ValueError(
                f"log_metric({name!r}, {shortened(value)}): the value must be a number. Convert it, or use log_extra."
            )
        self.metrics.setdefault(name, []).append(number)

    def log_extra(self, column: str, values: Iterable[Any]) -> None:
        """A column for the table of completions, one value per completion; several calls append to it."""
        listed = values.tolist() if isinstance(values, (np.ndarray, torch.Tensor)) else list(values)
        self.extras.setdefault(column, []).extend(listed)


def joined_metrics(pages: Mapping[str, Logbook]) -> dict[str, float]:
    """All rewards' metrics: the mean over calls."""
    values: dict[str, list[float]] = {}
    for page in pages.values():
        for name, logged in page.metrics.items():
            values.setdefault(name, []).extend(logged)
    return {name: sum(logged) / len(logged) for name, logged in values.items()}


def joined_extras(pages: Mapping[str, Logbook], batch: int) -> dict[str, list[Any]]:
    """All rewards' columns.

    Raises:
        RewardError: a column without one value per completion, or of two rewards.
    """
    owners: dict[str, str] = {}
    for reward, page in pages.items():
        for column, values in page.extras.items():
            if column in owners:
                raise RewardError(
                    f"The rewards {owners[column]!r} and {reward!r} both logged the extra column {column!r}: rename "
                    "one.",
                    reward,
                )
            if len(values) != batch:
                raise RewardError(
                    f"The reward {reward!r} logged {len(values)} values in the extra column {column!r} for {batch} "
                    "completions: log_extra takes one value per completion.",
                    reward,
                )
            owners[column] = reward
    return {column: pages[reward].extras[column] for column, reward in owners.items()}
