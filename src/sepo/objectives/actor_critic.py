r"""An objective with a critic: the values of its states replace the comparison within a group (PPO, arXiv 1707.06347).

    minimise  policy term with A_j = G_j - V(state j)
              + vf_coef E sum over views and sites of  weight x max((V - G)^2, (V_old + clip(V - V_old, +-c) - G)^2) / 2

V is read in the forward of the policy term. A value depends on a state (and on which of its sites comes next, which
does not depend on the network), never on the token that was drawn there, so that it changes no mean of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.valued import read_with_value
from sepo.diffusion.views import Reading, Views
from sepo.objectives.base import Loss, Objective, weighted_mean
from sepo.objectives.credit import Credit
from sepo.ops import Chance


@dataclass(frozen=True)
class ActorCritic(Objective):
    """objective: the policy term. vf_coef: weight of the value loss; cliprange_value: how far a value may move from the
    old one, in reward, before its gradient stops (None: any distance).

    collected: the collection reads the values of whole paths and makes the advantages (`gae_lambda` < 1, whitening).
    Else they are made here, from `credit.target` and the old value of the same view.
    """

    objective: Objective
    vf_coef: float = 0.5
    cliprange_value: float | None = None
    collected: bool = False

    def __post_init__(self) -> None:
        if self.vf_coef < 0:
            raise ValueError(f"vf_coef={self.vf_coef}: must not be negative; 0 leaves the critic untrained.")
        if self.cliprange_value is not None and self.cliprange_value <= 0:
            raise ValueError(
                f"cliprange_value={self.cliprange_value}: a value may move by more than 0, in units of reward; None "
                "switches the clip off."
            )

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return self.objective.whole

    @property
    def old_whole(self) -> bool:  # type: ignore[override]
        return self.objective.old_whole

    @property
    def uses_reference(self) -> bool:  # type: ignore[override]
        return self.objective.uses_reference

    @property
    def together(self) -> int:  # type: ignore[override]
        return self.objective.together

    @property
    def reads_rollout(self) -> bool:
        """A rollout holds log-probabilities but no values: where those are not in the credit, the old policy is read.

        That costs evaluations only where the policy changes between collection and use.
        """
        return self.collected and self.objective.reads_rollout

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return self.objective.views(rollout, process, chance)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        return read_with_value(policy, views, lambda lens, seen: self.objective.read(lens, seen, whole))

    def read_reference(self, reference: Denoiser, views: Views, new: Reading, whole: bool = False) -> Reading:
        """It needs no critic."""
        return self.objective.read_reference(reference, views, new, whole)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        if new.value is None or credit.target is None:
            raise ValueError(
                "ActorCritic needs a network with a critic and returns to learn from: set use_critic=True, and make "
                "Credit with its target."
            )
        before = old.value if credit.value is None else credit.value
        assert before is not None
        known = ~credit.target.isnan()
        target = credit.target.nan_to_num(0.0).to(new.value)
        if credit.value is None:
            credit = replace(credit, advantage=torch.where(known, target - before, 0.0))
        main = self.objective.loss(new, old, reference, credit, views)
        share = views.weight.sum(-1) * known
        error, moved = (new.value - target).square(), torch.zeros_like(new.value)
        if self.cliprange_value is not None:
            near = before + (new.value - before).clamp(-self.cliprange_value, self.cliprange_value)
            clipped = (near - target).square()
            moved, error = (clipped > error).to(error.dtype), torch.maximum(error, clipped)
        value = main.value + self.vf_coef * (share * error).sum(1).mean() / 2
        metrics = {
            "value_loss": weighted_mean(error / 2, share),
            "value": weighted_mean(new.value, share),
            "value_clip_ratio": weighted_mean(moved, share),
        }
        return Loss(value, main.metrics | metrics)
