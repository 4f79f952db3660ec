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
from sepo.ops import Chance, draw, pick
from sepo.samplers.base import Move, start
from sepo.samplers.filling import fill, hitting_times
from sepo.typing import LogProbs, Sites, Tokens


@dataclass(frozen=True)
class Ancestral:
    """`steps` equal steps of time from 1 to 0; the last one draws from the posterior itself."""

    steps: int = 128

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Ancestral(steps={self.steps}): needs at least 1 step.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        if not isinstance(policy.process, Absorbing):
            return self._resample(policy, canvas, chance)
        hits = hitting_times(policy, canvas, chance)
        order = ((1 - hits) * self.steps).long().clamp(0, self.steps - 1).masked_fill(~canvas.free, -1)
        grid = 1 - torch.arange(self.steps, device=hits.device) / self.steps
        return fill(policy, canvas, order, grid.expand(len(hits), -1), chance)

    def kernel(self, policy: Denoiser, xt: Tokens, step: int, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step`, given all sites before: probabilities [batch length vocab]."""
        t = torch.full(xt.shape[:1], 1 - step / self.steps, device=xt.device)
        law = policy.log_posterior(xt, t, attend)
        return law.exp() if step == self.steps - 1 else policy.process.reverse(law, xt, t, t - 1 / self.steps)

    def _resample(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        move = start(policy, canvas, chance)
        yield move
        for step in range(self.steps):
            law = self.kernel(policy, move.x, step, canvas.attend)
            x = torch.where(canvas.free, draw(law, chance.uniform(move.x.shape[1])), move.x)
            log_prob = pick(law, x).log().masked_fill(~canvas.free, 0.0)
            move = Move(x, torch.full_like(move.t, 1 - step / self.steps), log_prob)
            yield move
