r"""ESPO: Principled RL for Diffusion LLMs Emerges from a Sequence-Level Perspective (arXiv 2512.03759).

    rho = exp((B - B_old) / L),  minimise -min(rho A, clip(rho, 1 - eps, 1 + eps) A) + beta (B - B_ref)^2 / (2 L)

B is the likelihood bound of the sequence, estimated under a random mask and its complement, at the same masks for the
new, old and reference policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.objectives.advantages import Advantage, leave_one_out, unit
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Objective
from sepo.objectives.levels import path, sequence
from sepo.objectives.penalties import k2, with_drawn_kl
from sepo.objectives.readings import Complementary
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip


@dataclass(frozen=True)
class Espo(Algorithm):
    """pairs: of masks per update, two evaluations each; kl_coef: beta, 0.001 to 0.01 in the paper's recipes."""

    paper = Paper("Principled RL for Diffusion LLMs Emerges from a Sequence-Level Perspective", "2512.03759")
    needs = "masks"

    pairs: int = 2
    epsilon: float = 0.2
    kl_coef: float = 0.0

    def objective(self) -> Objective:
        surrogate = Surrogate(Complementary(self.pairs), PPOClip(self.epsilon), sequence)
        return with_drawn_kl(surrogate, self.kl_coef, path, k2)

    def advantage(self) -> Advantage:
        return Advantage(leave_one_out, unit)
