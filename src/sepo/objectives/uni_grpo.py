r"""UniGRPO: MMaDA, Multimodal Large Diffusion Language Models (arXiv 2505.15809).

One random mask per inner update, its share uniform; token ratios at the masked sites, PPO's clip, mean over the masked
tokens. The code of the method is unreleased: this follows the paper's description.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Views
from sepo.objectives.advantages import Advantage, group, mean
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Objective
from sepo.objectives.penalties import with_drawn_kl
from sepo.objectives.readings import FreshMasks
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip
from sepo.ops import Chance


@dataclass(frozen=True)
class MeanOverMasked(FreshMasks):
    """Fresh masks whose tokens share the weight 1 / (number of masks)."""

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        views = super().__call__(rollout, process, chance)
        return replace(views, weight=views.weight / views.weight.sum(-1, keepdim=True) / views.weight.shape[1])


@dataclass(frozen=True)
class UniGRPO(Algorithm):
    """masks: per update, 1 in the paper; kl_coef: of the k3 term to the reference."""

    paper = Paper("MMaDA: Multimodal Large Diffusion Language Models", "2505.15809")
    needs = "masks"

    masks: int = 1
    epsilon: float = 0.2
    kl_coef: float = 0.0

    def objective(self) -> Objective:
        return with_drawn_kl(Surrogate(MeanOverMasked(self.masks), PPOClip(self.epsilon)), self.kl_coef)

    def advantage(self) -> Advantage:
        return Advantage(mean, group)
