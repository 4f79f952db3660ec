r"""Weighted denoising cross-entropy: MDNS (arXiv 2508.10684) and TR2-D2 (arXiv 2509.25171) without its tree search.

    minimise  -sum of w x (bound on log p(x0) at fresh masks),   w proportional to exp(r / beta - log p_old / p_ref)

The weights make samples of the old policy stand for the optimum p_ref exp(r / beta) / Z, and the loss is pretraining on
them: the KL from the optimum to the policy. They are normalised within a group, here to a mean of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.objectives.advantages import Advantage, Returns, log_mean_exp, require_groups
from sepo.objectives.algorithm import Algorithm, Paper, require_above_zero
from sepo.objectives.base import Objective
from sepo.objectives.baselines import Features
from sepo.objectives.readings import FreshMasks
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import Reinforce


@dataclass(frozen=True)
class Tilted(Advantage):
    """exp(return / beta) over its mean in the group; the return holds the path's log-ratio, so this is the weight."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_above_zero(beta=self.beta)

    def __call__(self, returns: Returns, size: int, features: Features | None = None) -> Returns:
        require_groups(returns, size)
        whole = returns.reshape(len(returns), -1)[:, :1].reshape(-1, size, 1) / self.beta
        weight = (whole - log_mean_exp(whole)).exp().nan_to_num(0.0)
        return weight.reshape(len(returns), 1).expand(len(returns), returns[0].numel()).reshape(returns.shape)


@dataclass(frozen=True)
class Wdce(Algorithm):
    """masks: fresh masks per sequence and update, 16 in TR2-D2; beta: reward per nat, also of the return."""

    paper = Paper("MDNS: Masked Diffusion Neural Sampler via Stochastic Optimal Control", "2508.10684")
    needs = "masks"

    masks: int = 16
    beta: float = 0.1

    @property
    def return_beta(self) -> float:
        return self.beta

    def objective(self) -> Objective:
        return Surrogate(FreshMasks(self.masks), Reinforce())

    def advantage(self) -> Advantage:
        return Tilted(beta=self.beta)
