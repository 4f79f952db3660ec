r"""SDPO: Discrete Diffusion Trajectory Alignment via Stepwise Decomposition (arXiv 2507.04832).

    minimise  -sum over N sequences of softmax(r / temperature) log softmax(beta_t log p(x0 | x_t) / p_ref(x0 | x_t))

at fresh x_t ~ q(. | x0), one t for the N sequences; p(x0 | x_t) is the product over masked sites, beta_t = beta / w(t)
with w(t) the share masked, so that beta_t x log-ratio estimates beta x that of the bounds. The N sequences are
consecutive ones of a group. Not to be confused with TRL's method of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sepo.diffusion.likelihood import masked_by
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.advantages import Advantage, mean, unit
from sepo.objectives.algorithm import Algorithm, Paper, require_above_zero
from sepo.objectives.base import Loss, Objective
from sepo.objectives.credit import Credit
from sepo.objectives.readings.base import require_absorbing
from sepo.ops import Chance


@dataclass(frozen=True)
class Stepwise(Objective):
    """together: N."""

    together: int = 8  # type: ignore[misc]
    beta: float = 0.1
    temperature: float = 1.0
    uses_reference = True

    def __post_init__(self) -> None:
        require_above_zero(beta=self.beta, temperature=self.temperature)
        if self.together < 2:
            raise ValueError(f"together={self.together}: a sequence alone is compared with nothing; choose 2 or more.")

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        """One mask per sequence, of its own sites, at the noise level of the first of those it is compared with."""
        canvas, drawn = rollout.canvas, chance.uniform(1, rollout.x0.shape[1] + 1)
        first = torch.arange(len(drawn), device=drawn.device) // self.together * self.together
        drawn = torch.cat([drawn[first, :, :1], drawn[..., 1:]], dim=-1)
        return masked_by(drawn, rollout.x0, canvas.free, canvas.attend, require_absorbing(process))

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        if reference is None:
            raise ValueError("SDPO compares with a reference: give one to the trainer.")
        gain = (views.weight * (new.log_prob - reference.log_prob)).sum((1, 2)).view(-1, self.together)
        reward = credit.reward.view(-1, self.together).to(gain.dtype)
        known = ~reward.isnan()
        goal = (reward / self.temperature).masked_fill(~known, -torch.inf).softmax(1).nan_to_num(0.0)
        log_share = (self.beta * gain).masked_fill(~known, -torch.inf).log_softmax(1).masked_fill(~known, 0.0)
        return Loss(-(goal * log_share).sum(1).mean(), {})


@dataclass(frozen=True)
class Sdpo(Algorithm):
    """together: N sequences that are compared; beta: of the implicit reward; temperature: of the reward."""

    paper = Paper("Discrete Diffusion Trajectory Alignment via Stepwise Decomposition", "2507.04832")
    needs = "masks"
    any_sampler = True

    together: int = 8
    beta: float = 0.1
    temperature: float = 1.0

    @property
    def return_beta(self) -> float:
        return 0.0

    def objective(self) -> Objective:
        return Stepwise(self.together, self.beta, self.temperature)

    def advantage(self) -> Advantage:
        return Advantage(mean, unit)
