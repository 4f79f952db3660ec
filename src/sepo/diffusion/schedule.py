r"""Noise schedules: alpha(t) is the probability that a token of the data is still there at time t.

t = 0 is data, t = 1 is noise; sigma(t) = -log alpha(t) is the total noise and rate(t) = d sigma / dt its speed
(Simple and Effective Masked Diffusion Language Models, arXiv 2406.07524, section 3; Discrete Diffusion Modeling by
Estimating the Ratios of the Data Distribution, arXiv 2310.16834, section 3.3).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Times = Float[Tensor, "*times"]


class Schedule(ABC):
    """A decreasing alpha from (about) 1 at t = 0 to (about) 0 at t = 1. Methods are elementwise, times in [0, 1]."""

    @abstractmethod
    def alpha(self, t: Times) -> Times: ...

    @abstractmethod
    def rate(self, t: Times) -> Times:
        """-d log alpha / dt, per unit of time."""

    @abstractmethod
    def time(self, alpha: Times) -> Times:
        """The inverse of alpha."""

    def sigma(self, t: Times) -> Times:
        return -self.alpha(t).log()


@dataclass(frozen=True)
class LogLinear(Schedule):
    """alpha = 1 - (1 - eps) t: a token is masked with probability (1 - eps) t (arXiv 2310.16834, appendix C.1)."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _in_open_unit_interval("eps", self.eps)

    def alpha(self, t: Times) -> Times:
        return 1 - (1 - self.eps) * t

    def sigma(self, t: Times) -> Times:
        return -torch.log1p(-(1 - self.eps) * t)

    def rate(self, t: Times) -> Times:
        return (1 - self.eps) / self.alpha(t)

    def time(self, alpha: Times) -> Times:
        return (1 - alpha) / (1 - self.eps)


@dataclass(frozen=True)
class Geometric(Schedule):
    """sigma = sigma_min^(1 - t) sigma_max^t (arXiv 2310.16834, appendix C.1). Some noise is left at t = 0."""

    sigma_min: float = 1e-4
    sigma_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"Geometric(sigma_min={self.sigma_min}, sigma_max={self.sigma_max}): needs 0 < sigma_min < sigma_max; "
                "the published values are 1e-4 and 20."
            )

    def sigma(self, t: Times) -> Times:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def alpha(self, t: Times) -> Times:
        return (-self.sigma(t)).exp()

    def rate(self, t: Times) -> Times:
        return self.sigma(t) * math.log(self.sigma_max / self.sigma_min)

    def time(self, alpha: Times) -> Times:
        return (-alpha.log() / self.sigma_min).log() / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = eps + (1 - eps) (1 - cos(pi (1 - t) / 2)) (arXiv 2406.07524, appendix E.1)."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _in_open_unit_interval("eps", self.eps)

    def alpha(self, t: Times) -> Times:
        return self.eps + (1 - self.eps) * (1 - torch.sin(math.pi / 2 * t))

    def sigma(self, t: Times) -> Times:
        return -torch.log1p(-(1 - self.eps) * torch.sin(math.pi / 2 * t))

    def rate(self, t: Times) -> Times:
        return (1 - self.eps) * math.pi / 2 * torch.sin(math.pi / 2 * (1 - t)) / self.alpha(t)

    def time(self, alpha: Times) -> Times:
        return torch.asin(((1 - alpha) / (1 - self.eps)).clamp_max(1.0)) * 2 / math.pi


SCHEDULES: dict[str, type[Schedule]] = {"loglinear": LogLinear, "geometric": Geometric, "cosine": Cosine}


def _in_open_unit_interval(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name}={value}: needs a value strictly between 0 and 1, such as the published 1e-3.")
