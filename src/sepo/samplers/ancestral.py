"""Ancestral sampling on a time grid: x_s ~ q(x_s | x_t) with the posterior plugged in, all sites at once.

For the absorbing process this is DDPM, Tweedie and the analytic sampler in one (arXiv 2406.07524, eq. 6; arXiv
2310.16834, eq. 19); a site is revealed when its hitting time falls into the step, and a row in which nothing appears
needs no evaluation. The error is O(1/steps).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.ops import Chance
from sepo.samplers.base import Move, Steps, resample
from sepo.samplers.filling import fill, hitting_times
from sepo.typing import LogProbs, Sites, Tokens


@dataclass(frozen=True)
class Ancestral:
    """`steps` equal steps of time from 1 to 0; the last one draws from the posterior itself."""

    steps: int = 128
    revisits = False
    exact_density = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Ancestral(steps={self.steps}): needs at least 1 step.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        if not isinstance(policy.process, Absorbing):
            return resample(self, policy, canvas, chance)
        hits = hitting_times(policy, canvas, chance)
        order = ((1 - hits) * self.steps).long().clamp(0, self.steps - 1).masked_fill(~canvas.free, -1)
        grid = 1 - torch.arange(self.steps, device=hits.device) / self.steps
        return fill(policy, canvas, order, grid.expand(len(hits), -1), chance)

    def kernel(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step` of each row, given all sites before: probabilities."""
        t = 1 - step / self.steps
        law = policy.log_posterior(xt, t, attend)
        moved = policy.process.reverse(law, xt, t, (t - 1 / self.steps).clamp_min(0.0))
        return torch.where((step == self.steps - 1)[:, None, None], law.exp(), moved)
