r"""Trajectory balance, log Z from the batch: RTB (arXiv 2405.20971), TraFL (2605.13935), VarGrad (2010.10436).

    minimise  (beta / 2) (log Z + log p(path) / p_ref(path) - r / beta)^2

log Z = mean over the group of (r / beta - log p_old / p_ref), found once at collection, so that with A the centred
return r - beta log p_old / p_ref the residual is log p(path) / p_old(path) - A / beta. At the old policy its gradient
is the policy gradient of E[r] - beta KL; away from it no importance weight is needed. Every state of the path is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.advantages import Advantage, mean, unit
from sepo.objectives.algorithm import Algorithm, Paper, require_above_zero
from sepo.objectives.base import Loss, Objective
from sepo.objectives.credit import Credit
from sepo.objectives.readings import NextSite
from sepo.ops import Chance


@dataclass(frozen=True)
class Balance(Objective):
    """beta: reward per nat."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_above_zero(beta=self.beta)

    @property
    def reads_rollout(self) -> bool:
        return True

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return NextSite(None)(rollout, process, chance)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        moved = (views.weight * (new.log_prob - old.log_prob)).sum((1, 2))
        residual = moved - credit.sequence_advantage.to(moved.dtype) / self.beta
        residual = residual.masked_fill(credit.reward.isnan(), 0.0)  # nothing is known of what it should be
        return Loss(self.beta * residual.square().mean() / 2, {"residual": residual.detach().abs().mean()})


@dataclass(frozen=True)
class TrajectoryBalance(Algorithm):
    """beta: reward per nat, also of the return."""

    paper = Paper(
        "Amortizing intractable inference in diffusion models for vision, language, and control", "2405.20971"
    )
    needs = "paths"

    beta: float = 0.1

    @property
    def return_beta(self) -> float:
        return self.beta

    def objective(self) -> Objective:
        return Balance(self.beta)

    def advantage(self) -> Advantage:
        return Advantage(mean, unit)
