"""The ledger:

scalars noted between two log lines. It is part of a checkpoint, so that a resumed run logs the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Sums and counts by name. NaN values are left out of the mean."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def note(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isnan(value):
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def settle(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    @staticmethod
    def mean_of(records: Iterable[Mapping[str, float]]) -> dict[str, float]:
        """The mean of each name over the records that have it."""
        ledger = Ledger()
        for record in records:
            ledger.note(record)
        return ledger.settle()

    def state(self) -> dict[str, dict]:
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def restore(self, state: Mapping[str, dict]) -> None:
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
