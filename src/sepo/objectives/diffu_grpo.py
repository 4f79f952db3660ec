r"""diffu-GRPO: d1, Scaling Reasoning in Diffusion Large Language Models via Reinforcement Learning (arXiv 2504.12216).

log pi(o_k) is read once, with the whole completion masked and prompt tokens masked with probability 0.15 (a mean
field); token ratios, PPO's clip, mean over tokens, a k3 term to the reference at the same masks.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.objectives.advantages import Advantage, mean, unit
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Objective
from sepo.objectives.penalties import with_drawn_kl
from sepo.objectives.readings import FullyMasked
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip


@dataclass(frozen=True)
class DiffuGRPO(Algorithm):
    """prompt_mask: chance that a prompt token is masked; kl_coef: of the k3 term, 0.04 in the released recipes."""

    paper = Paper("d1: Scaling Reasoning in Diffusion Large Language Models via Reinforcement Learning", "2504.12216")
    needs = "masks"

    prompt_mask: float = 0.15
    epsilon: float = 0.5
    kl_coef: float = 0.0

    def objective(self) -> Objective:
        surrogate = Surrogate(FullyMasked(self.prompt_mask), PPOClip(self.epsilon), average=True)
        return with_drawn_kl(surrogate, self.kl_coef)

    def advantage(self) -> Advantage:
        return Advantage(mean, unit)
