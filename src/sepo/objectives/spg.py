r"""SPG: Sandwiched Policy Gradient for Masked Diffusion Language Models (arXiv 2510.09541).

    minimise  -A l,   l = lower bound of log pi for A > 0,  omega x upper + (1 - omega) x lower for A < 0
    lower   mean over views of the mean over masked tokens of log p
    upper   (1 / b) mean over tokens of log( mean over views of 1[masked] p^b / t ),   t the share masked

No ratio, no clip. Masks are of the whole sequence here; the paper draws them block by block for models that decode so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
class Sandwich(Objective):
    """masks: views per sequence; power: b; omega: share of the upper bound where the advantage is negative."""

    masks: int = 2
    power: float = 1.5
    omega: float = 0.5

    def __post_init__(self) -> None:
        require_above_zero(power=self.power)
        check_states(self.masks, endless=True)
        if not 0 <= self.omega <= 1:
            raise ValueError(f"omega={self.omega}: is the share of the upper bound; choose 0 to 1.")

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return FreshMasks(self.masks)(rollout, process, chance)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        lower, upper = self.lower(new.log_prob, views), self.upper(new.log_prob, views)
        advantage = credit.sequence_advantage.to(lower.dtype)
        negative = self.omega * upper + (1 - self.omega) * lower
        value = -(advantage * torch.where(advantage > 0, lower, negative)).mean()
        return Loss(value, {"bound_gap": (upper - lower).detach().mean()})

    def lower(self, log_prob: Tensor, views: Views) -> Tensor:
        masked = views.weight != 0
        return ((masked * log_prob).sum(-1) / masked.sum(-1).clamp_min(1)).mean(1)

    def upper(self, log_prob: Tensor, views: Views) -> Tensor:
        masked = views.weight != 0
        share = masked.sum(-1, keepdim=True) / views.free.sum(-1).clamp_min(1)[:, None, None]
        terms = (self.power * log_prob - share.clamp_min(1e-9).log()).masked_fill(~masked, -torch.inf)
        seen = masked.any(1)
        safe = terms.masked_fill(~seen.unsqueeze(1), 0.0)
        log_mean = safe.logsumexp(1) - torch.log(torch.tensor(float(masked.shape[1])))
        return (seen * log_mean).sum(-1) / seen.sum(-1).clamp_min(1) / self.power


@dataclass(frozen=True)
class Spg(Algorithm):
    """masks: views per update; power: b, 1 to 2 in the paper; omega: 0.5 is its mixture, 1 the upper bound alone."""

    paper = Paper("SPG: Sandwiched Policy Gradient for Masked Diffusion Language Models", "2510.09541")
    needs = "masks"

    masks: int = 2
    power: float = 1.5
    omega: float = 0.5

    def objective(self) -> Objective:
        return Sandwich(self.masks, self.power, self.omega)

    def advantage(self) -> Advantage:
        return Advantage(mean, unit)
