"""Tau-leaping: Euler steps of the reverse rates rate(t) pi(x_t) s(x_t, t)_y at all sites (arXiv 2310.16834, eq. 17).

Reads the concrete score itself, normalised or not. The error is O(1/steps).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, draw, pick
from sepo.samplers.base import Move, start
from sepo.typing import LogProbs, Sites, Tokens


@dataclass(frozen=True)
class TauLeaping:
    """`steps` equal steps from t = 1 to 0; jump probabilities are cut at 1; the last step draws from the posterior."""

    steps: int = 128

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"TauLeaping(steps={self.steps}): needs at least 1 step.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        move = start(policy, canvas, chance)
        yield move
        for step in range(self.steps):
            probability, law = self._jumps(policy, move.x, step, canvas.attend)
            drawn = chance.uniform(2, move.x.shape[1])
            jumps = canvas.free & (drawn[:, 0] < probability)
            x = torch.where(jumps, draw(law, drawn[:, 1]), move.x)
            log_prob = torch.where(jumps, (pick(law, x) / law.sum(-1)).log(), 0.0)
            move = Move(x, torch.full_like(move.t, 1 - step / self.steps), log_prob)
            yield move

    def kernel(self, policy: Denoiser, xt: Tokens, step: int, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step`, given all sites before: probabilities [batch length vocab]."""
        probability, law = self._jumps(policy, xt, step, attend)
        moving = (probability / law.sum(-1)).nan_to_num(0.0).unsqueeze(-1) * law
        return moving.scatter_add(-1, xt.unsqueeze(-1), (1 - probability).unsqueeze(-1))

    def _jumps(self, policy: Denoiser, xt: Tokens, step: int, attend: Sites | None) -> tuple[Tensor, Tensor]:
        """The probability [batch length] that a site is redrawn, and its law then, up to a factor."""
        t = torch.full(xt.shape[:1], 1 - step / self.steps, device=xt.device)
        if step == self.steps - 1:
            law = policy.log_posterior(xt, t, attend).exp()
            return torch.ones_like(law[..., 0]), law
        law = policy.log_score(xt, t, attend).exp().scatter(-1, xt.unsqueeze(-1), 0.0)
        speed = policy.process.schedule.rate(t).unsqueeze(1) * policy.process.limit(xt) / self.steps
        return (speed * law.sum(-1)).clamp_max(1.0), law
