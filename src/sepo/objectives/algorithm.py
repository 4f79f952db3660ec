"""A published method: its objective, its advantage, and the rollouts it asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

from sepo.objectives.advantages import Advantage
from sepo.objectives.base import Objective


class Paper(NamedTuple):
    """Where a method was published: the title, and the number on arXiv."""

    title: str
    arxiv: str


class Algorithm(ABC):
    """A frozen dataclass of a paper's options, with the paper's defaults."""

    paper: ClassVar[Paper | None] = None
    """What a model card names; None: a method of your own."""
    sampler: ClassVar[str | None] = None
    """The sampler that its rollouts need; None: any."""
    needs: ClassVar[Literal["masks", "paths"] | None] = None
    """masks: a process that masks; paths: also a sampler that fills each mask once, since its path is read."""

    replays: ClassVar[bool] = False
    """Whether it learns from elites, which the trainer keeps."""

    any_sampler: ClassVar[bool] = False
    """Whether any sequences teach it: neither return nor loss reads the density of the paths that led to them, so that
    rollouts may be guided."""

    @property
    def return_beta(self) -> float | None:
        """What a nat of path KL costs in the return; None: what the configuration says."""
        return None

    @abstractmethod
    def objective(self) -> Objective: ...

    @abstractmethod
    def advantage(self) -> Advantage: ...


def require_above_zero(**options: float) -> None:
    """
    Raises:
        ValueError: an option that divides, or that sharpens, is not above 0.
    """
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: must be above 0, since the loss is scaled by it or by its inverse.")
