r"""JustGRPO: GRPO on the left-to-right factorisation of a diffusion language model (code: LeapLabTHU/JustGRPO).

Rollouts are drawn left to right, one token per step, where log pi(o_k | o_<k, the rest masked) is exact; the loss is
GRPO's, strictly on policy, as a mean over tokens. One evaluation with gradient per token.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.objectives.advantages import Advantage, group, mean
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Objective
from sepo.objectives.readings import NextSite
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip


@dataclass(frozen=True)
class JustGRPO(Algorithm):
    """states: tokens read per update, reweighted; None: all, as released."""

    paper = Paper(
        "The Flexibility Trap: Why Arbitrary Order Limits Reasoning Potential in Diffusion Language Models",
        "2601.15165",
    )
    needs = "paths"
    sampler = "left_to_right"

    states: int | None = None
    epsilon: float = 0.2

    def objective(self) -> Objective:
        return Surrogate(NextSite(self.states), PPOClip(self.epsilon), average=True)

    def advantage(self) -> Advantage:
        return Advantage(mean, group)
