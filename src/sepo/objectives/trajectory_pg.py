r"""Trajectory policy gradient: DDPO (Training Diffusion Models with Reinforcement Learning, arXiv 2305.13301, eq. 5-6).

Each denoising step is an action with the ratio rho_t = p(x_s | x_t) / p_old(x_s | x_t), the product over the sites that
it reveals; minimise -sum over t of min(rho_t A, clip(rho_t, 1 - eps, 1 + eps) A). For masked models this is the form of
AGRPO (arXiv 2510.04019), which draws steps, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.objectives.advantages import Advantage, group, mean
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Objective
from sepo.objectives.levels import step
from sepo.objectives.readings import NextSite
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip


@dataclass(frozen=True)
class TrajectoryPG(Algorithm):
    """states: steps read per update, reweighted; None: all."""

    paper = Paper("Training Diffusion Models with Reinforcement Learning", "2305.13301")
    needs = "paths"

    states: int | None = None
    epsilon: float = 0.2

    def objective(self) -> Objective:
        return Surrogate(NextSite(self.states), PPOClip(self.epsilon), step)

    def advantage(self) -> Advantage:
        return Advantage(mean, group)
