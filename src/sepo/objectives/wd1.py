r"""wd1: Weighted Policy Optimization for Reasoning in Diffusion Language Models (arXiv 2507.08838).

    minimise  sum over the group of (-w+ + w-) log pi(o),   w+- = softmax over the group of (+- psi A)

No ratio, no old policy, no clip. log pi is d1's reading: everything masked at once, summed over tokens. Here the
weights are the advantage (w+ - w-) x (size of the group), so that the mean over a batch is the paper's sum over
groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sepo.objectives.advantages import Advantage, Returns, log_mean_exp, mean, unit
from sepo.objectives.algorithm import Algorithm, Paper, require_above_zero
from sepo.objectives.base import Objective
from sepo.objectives.baselines import Features
from sepo.objectives.readings import FullyMasked
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import Reinforce


@dataclass(frozen=True)
class SoftmaxDifference(Advantage):
    """exp(psi A) / mean exp(psi A) - exp(-psi A) / mean exp(-psi A) within each group, A centred."""

    psi: float = 1.0

    def __post_init__(self) -> None:
        require_above_zero(psi=self.psi)

    def __call__(self, returns: Returns, size: int, features: Features | None = None) -> Returns:
        centred = super().__call__(returns, size).masked_fill(returns.isnan(), float("nan"))
        scaled = self.psi * centred.reshape(len(returns) // size, size, -1)

        def weight(signed: Tensor) -> Tensor:
            return (signed - log_mean_exp(signed)).exp()

        return (weight(scaled) - weight(-scaled)).nan_to_num(0.0).reshape(returns.shape)


@dataclass(frozen=True)
class Wd1(Algorithm):
    """psi: sharpness of the weights; prompt_mask: chance that a prompt token is masked."""

    paper = Paper("wd1: Weighted Policy Optimization for Reasoning in Diffusion Language Models", "2507.08838")
    needs = "masks"

    psi: float = 1.0
    prompt_mask: float = 0.15

    def objective(self) -> Objective:
        return Surrogate(FullyMasked(self.prompt_mask), Reinforce())

    def advantage(self) -> Advantage:
        return SoftmaxDifference(mean, unit, psi=self.psi)
