r"""How the probability ratio r = p / p_old of a site, step or sequence weighs its term.

    ScoreClip   -w log p,  w = min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) detached   SEPO, arXiv 2502.01384, Alg. 1
    PPOClip     -min(r A, clip(r, 1 - eps_low, 1 + eps_high) A), gradient through r      PPO, arXiv 1707.06347, eq. 7
    Unclipped   -r A, gradient through r                                                 importance sampling
    Reinforce   -A log p, no ratio                                                       on-policy only

SEPO's clip never stops a gradient: for A > 0 it caps the weight at 1 + eps, for A < 0 it floors it at 1 - eps and
leaves it unbounded above. `delta` caps r from above (TRL's two-sided clip, arXiv 2505.07291); `drop_outside`
gives no weight to terms that PPO would leave out. At theta = theta_old all of them have the gradient -A grad log p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Weight(Protocol):
    @property
    def bounds(self) -> tuple[float, float]:
        """The range of ratios that the clip leaves alone."""
        ...

    def __call__(self, log_prob: Tensor, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """The term to minimise, elementwise; all three broadcast to [batch view length]."""
        ...


@dataclass(frozen=True)
class ScoreClip:
    """SEPO's weight. epsilon_high=None: as epsilon; delta=None: no cap; drop_outside: weight 0 where PPO has none."""

    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    drop_outside: bool = False

    def __post_init__(self) -> None:
        _check(self.epsilon, self.epsilon_high, self.delta)

    @property
    def bounds(self) -> tuple[float, float]:
        return _bounds(self.epsilon, self.epsilon_high)

    def __call__(self, log_prob: Tensor, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        ratio = _capped(log_ratio.detach().exp(), self.delta)
        free, clipped = ratio * advantage, ratio.clamp(*self.bounds) * advantage
        weight = torch.minimum(free, clipped)
        if self.drop_outside:
            weight = weight.masked_fill(clipped < free, 0.0)
        return -weight * log_prob


@dataclass(frozen=True)
class PPOClip:
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None

    def __post_init__(self) -> None:
        _check(self.epsilon, self.epsilon_high, self.delta)

    @property
    def bounds(self) -> tuple[float, float]:
        return _bounds(self.epsilon, self.epsilon_high)

    def __call__(self, log_prob: Tensor, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        clipped = ratio.clamp(*self.bounds)
        return -torch.minimum(_capped(ratio, self.delta) * advantage, clipped * advantage)


@dataclass(frozen=True)
class Unclipped:
    bounds = (0.0, math.inf)

    def __call__(self, log_prob: Tensor, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        return -log_ratio.exp() * advantage


@dataclass(frozen=True)
class Reinforce:
    """-A log p: no ratio, as if every batch were fresh (REINFORCE, Williams 1992)."""

    bounds = (0.0, math.inf)

    def __call__(self, log_prob: Tensor, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        return -advantage * log_prob


WEIGHTS: dict[str, type] = {"score": ScoreClip, "ppo": PPOClip, "unclipped": Unclipped, "reinforce": Reinforce}


def _bounds(epsilon: float, epsilon_high: float | None) -> tuple[float, float]:
    return 1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high)


def _capped(ratio: Tensor, delta: float | None) -> Tensor:
    return ratio if delta is None else ratio.clamp_max(delta)


def _check(epsilon: float, epsilon_high: float | None, delta: float | None) -> None:
    if not 0 <= epsilon <= 1:
        raise ValueError(
            f"epsilon={epsilon}: the clip range is 1 - epsilon to 1 + epsilon; choose 0 to 1, such as 0.2."
        )
    high = epsilon if epsilon_high is None else epsilon_high
    if high < 0:
        raise ValueError(f"epsilon_high={epsilon_high}: must not be negative; leave it out to use epsilon.")
    if delta is not None and delta <= 1 + high:
        raise ValueError(f"delta={delta}: the upper cap must exceed 1 + epsilon_high = {1 + high}.")
