"""What an objective is: `views` (chance, no model), `read` (model, no chance), `loss` (neither)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views, read
from sepo.objectives.credit import Credit
from sepo.ops import Chance


@dataclass(frozen=True)
class Loss:
    """A value to minimise, the mean over the sequences of the batch, and scalars to log (also means over the batch)."""

    value: Tensor
    metrics: dict[str, Tensor]


class Penalty(ABC):
    """A term of the loss: old, new and reference are readings of the same views."""

    whole: bool = False
    """Whether the new reading must hold the law over the vocabulary."""
    old_whole: bool = False
    """Whether the old one must, too."""
    uses_reference: bool = False
    together: int = 1
    """Consecutive rows of a batch that are compared with each other: a micro-batch holds a multiple of them."""

    @abstractmethod
    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss: ...


class Objective(Penalty):
    """A term that also chooses the views."""

    @abstractmethod
    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views: ...

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        """The policy at the views; whole: the law over the vocabulary even if the objective does not need it."""
        return read(policy, views, whole or self.whole)

    def read_reference(self, reference: Denoiser, views: Views, new: Reading, whole: bool = False) -> Reading:
        """The reference at the views, or where the new policy's reading has led."""
        return self.read(reference, views, whole)

    @property
    def reads_rollout(self) -> bool:
        """Whether the rollout's own log-probabilities are the old policy's reading of these views."""
        return False


@dataclass(frozen=True)
class Total(Objective):
    """An objective and weighted penalties at the views that it chose."""

    objective: Objective
    penalties: tuple[tuple[float, Penalty], ...] = ()

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return any(term.whole for term in self._terms)

    @property
    def old_whole(self) -> bool:  # type: ignore[override]
        return any(term.old_whole for term in self._terms)

    @property
    def uses_reference(self) -> bool:  # type: ignore[override]
        return any(term.uses_reference for term in self._terms)

    @property
    def together(self) -> int:  # type: ignore[override]
        return self.objective.together

    @property
    def reads_rollout(self) -> bool:
        return self.objective.reads_rollout

    @property
    def _terms(self) -> list[Penalty]:
        return [self.objective, *(term for _, term in self.penalties)]

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return self.objective.views(rollout, process, chance)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        return self.objective.read(policy, views, whole or self.whole)

    def read_reference(self, reference: Denoiser, views: Views, new: Reading, whole: bool = False) -> Reading:
        return self.objective.read_reference(reference, views, new, whole or self.whole)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        main = self.objective.loss(new, old, reference, credit, views)
        value, metrics = main.value, dict(main.metrics)
        for weight, term in self.penalties:
            part = term.loss(new, old, reference, credit, views)
            value = value + weight * part.value
            metrics |= part.metrics
        return Loss(value, metrics)


def per_sequence(values: Tensor) -> Tensor:
    """[batch view length] summed over views and sites, averaged over the batch."""
    return values.sum((1, 2)).mean()


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of `values` over the weighted sites of the batch, without gradient."""
    counted = weight != 0
    return torch.where(counted, values, 0.0).detach().sum() / counted.sum().clamp_min(1)
