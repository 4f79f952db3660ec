r"""coupled-GRPO: DiffuCoder, Understanding and Improving Masked Diffusion Models for Code Generation (2506.20639).

Three views: everything masked, a random mask with p ~ U(0.2, 0.8), its complement; a token's log-probability is the sum
of its readings weighted 1/2 and 1/(2p) or 1/(2(1 - p)). Token ratios of that sum, PPO's clip, mean over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.objectives.advantages import Advantage, leave_one_out, unit
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Objective
from sepo.objectives.levels import site
from sepo.objectives.penalties import with_drawn_kl
from sepo.objectives.readings import Coupled
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip


@dataclass(frozen=True)
class CoupledGRPO(Algorithm):
    """kl_coef: of the k3 term, 0.01 in the released recipe."""

    paper = Paper("DiffuCoder: Understanding and Improving Masked Diffusion Models for Code Generation", "2506.20639")
    needs = "masks"

    epsilon: float = 0.5
    kl_coef: float = 0.0

    def objective(self) -> Objective:
        surrogate = Surrogate(Coupled(), PPOClip(self.epsilon), site, average=True)
        return with_drawn_kl(surrogate, self.kl_coef, site)

    def advantage(self) -> Advantage:
        return Advantage(leave_one_out, unit)
