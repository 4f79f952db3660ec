"""A published method: its objective, its advantage, and the rollouts it asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from sepo.objectives.advantages import Advantage
from sepo.objectives.base import Objective


class Algorithm(ABC):
    """A frozen dataclass of a paper's options, with the paper's defaults."""

    sampler: ClassVar[str | None] = None
    """The sampler that its rollouts need; None: any."""

    @property
    def return_beta(self) -> float | None:
        """What a nat of path KL costs in the return; None: what the configuration says."""
        return None

    @abstractmethod
    def objective(self) -> Objective: ...

    @abstractmethod
    def advantage(self) -> Advantage: ...
