"""Tau-leaping: Euler steps of the reverse rates rate(t) pi(x_t) s(x_t, t)_y at all sites (arXiv 2310.16834, eq. 17).

Reads the concrete score itself, normalised or not. The error is O(1/steps).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, draw, pick
from sepo.samplers.base import Move, start


@dataclass(frozen=True)
class TauLeaping:
    """`steps` equal steps from t = 1 to 0; jump probabilities are cut at 1; the last step draws from the posterior."""

    steps: int = 128

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"TauLeaping(steps={self.steps}): needs at least 1 step.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        process = policy.process
        move = start(policy, canvas, chance)
        yield move
        for step in range(self.steps):
            t = torch.full_like(move.t, 1 - step / self.steps)
            drawn = chance.uniform(2, move.x.shape[1])
            if step == self.steps - 1:
                law = policy.log_posterior(move.x, t, canvas.attend).exp()
                jumps = torch.ones_like(canvas.free)
            else:
                law = policy.log_score(move.x, t, canvas.attend).exp().scatter(-1, move.x.unsqueeze(-1), 0.0)
                speed = process.schedule.rate(t).unsqueeze(1) * process.limit(move.x) / self.steps
                jumps = drawn[:, 0] < speed * law.sum(-1)
            jumps = jumps & canvas.free
            x = torch.where(jumps, draw(law, drawn[:, 1]), move.x)
            log_prob = torch.where(jumps, (pick(law, x) / law.sum(-1)).log(), 0.0)
            move = Move(x, t, log_prob)
            yield move
