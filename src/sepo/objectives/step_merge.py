r"""StepMerge: d2, Improved Techniques for Training Reasoning Diffusion Language Models (arXiv 2509.21474).

The path is cut into N segments; what a segment reveals is read at the segment's first state, as if it had been drawn
there at once. N = 1 is d1's mean field, N = number of steps the exact path. Token ratios, PPO's clip, mean over tokens,
and a k3 term to the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.objectives.advantages import Advantage, mean, unit
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Objective
from sepo.objectives.penalties import with_drawn_kl
from sepo.objectives.readings import Merged
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip


@dataclass(frozen=True)
class StepMerge(Algorithm):
    """segments: N, 8 to 16 in the paper; kl_coef: of the k3 term, 0.04 in the released recipes."""

    paper = Paper("d2: Improved Techniques for Training Reasoning Diffusion Language Models", "2509.21474")
    needs = "paths"

    segments: int = 8
    epsilon: float = 0.5
    kl_coef: float = 0.0

    def objective(self) -> Objective:
        return with_drawn_kl(Surrogate(Merged(self.segments), PPOClip(self.epsilon), average=True), self.kl_coef)

    def advantage(self) -> Advantage:
        return Advantage(mean, unit)
