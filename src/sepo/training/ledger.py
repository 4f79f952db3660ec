"""The ledger:

scalars noted between two log lines. It is part of a checkpoint, so that a resumed run logs the same lines. Numbers that
are still being computed are waited for when the line is due, not when they are noted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Ledger:
    """Sums and counts by name. NaN values are left out of the mean."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[str, float | Tensor]] = field(default_factory=list)

    def note(self, values: Mapping[str, float | Tensor]) -> None:
        """Numbers, or tensors that hold one."""
        for name, value in values.items():
            self.waiting.append((name, value.detach() if isinstance(value, Tensor) else value))

    def settle(self) -> dict[str, float]:
        """The means since the last call."""
        self._sum_up()
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
        self._sum_up()
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def restore(self, state: Mapping[str, dict]) -> None:
        self.sums, self.counts, self.waiting = dict(state["sums"]), dict(state["counts"]), []

    def _sum_up(self) -> None:
        for name, value in self.waiting:
            number = float(value)
            if not math.isnan(number):
                self.sums[name] = self.sums.get(name, 0.0) + number
                self.counts[name] = self.counts.get(name, 0) + 1
        self.waiting = []
