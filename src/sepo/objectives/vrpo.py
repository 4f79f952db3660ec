r"""VRPO: LLaDA 1.5, Variance-Reduced Preference Optimization for Large Language Diffusion Models (arXiv 2505.19223).

    minimise  -log sigmoid( beta [ (B - B_ref)(winner) - (B - B_ref)(loser) ] )

B is the likelihood bound, a sum over tokens, estimated with n masks, one per noise level, shared with the reference.
A pair is two consecutive sequences of a group; the one with the higher reward wins, and a tie teaches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import functional

from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.advantages import Advantage, mean, unit
from sepo.objectives.algorithm import Algorithm, Paper, require_above_zero
from sepo.objectives.base import Loss, Objective
from sepo.objectives.credit import Credit
from sepo.objectives.readings import FreshMasks
from sepo.objectives.readings.base import check_states
from sepo.ops import Chance


@dataclass(frozen=True)
class Preference(Objective):
    """DPO's loss on bounds; the mean is over sequences, two to a pair."""

    masks: int = 8
    beta: float = 0.2
    uses_reference = True
    together = 2

    def __post_init__(self) -> None:
        require_above_zero(beta=self.beta)
        check_states(self.masks, endless=True)

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return FreshMasks(self.masks)(rollout, process, chance)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        if reference is None:
            raise ValueError("VRPO compares with a reference: give one to the trainer.")
        gain = (views.weight * (new.log_prob - reference.log_prob)).sum((1, 2)).view(-1, 2)
        first, second = credit.reward.view(-1, 2).unbind(1)
        sign = (first - second).nan_to_num(0.0).sign().to(gain.dtype)
        margin = self.beta * sign * (gain[:, 0] - gain[:, 1])
        pairs = (sign != 0).to(gain.dtype)
        value = -(pairs * functional.logsigmoid(margin)).mean()
        right = (pairs * (margin > 0)).sum() / pairs.sum().clamp_min(1)
        return Loss(value, {"preference/accuracy": right.detach(), "preference/ties": 1 - pairs.mean()})


@dataclass(frozen=True)
class Vrpo(Algorithm):
    """masks: n; beta: of DPO, per nat of the bound."""

    paper = Paper(
        "LLaDA 1.5: Variance-Reduced Preference Optimization for Large Language Diffusion Models", "2505.19223"
    )
    needs = "masks"
    any_sampler = True

    masks: int = 8
    beta: float = 0.2

    @property
    def return_beta(self) -> float:
        return 0.0

    def objective(self) -> Objective:
        return Preference(self.masks, self.beta)

    def advantage(self) -> Advantage:
        return Advantage(mean, unit)
