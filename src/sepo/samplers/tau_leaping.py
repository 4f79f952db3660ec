"""Tau-leaping: Euler steps of the reverse rates rate(t) pi(x_t) s(x_t, t)_y at all sites (arXiv 2310.16834, eq. 17).

Reads the concrete score itself, normalised or not. The error is O(1/steps). Of masks `log_prob` holds the tokens alone:
when they appear is free of the policy where its score is normalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.ops import Chance, draw, pick
from sepo.samplers.base import Move, Steps, start
from sepo.typing import LogProbs, Sites, Tokens


@dataclass(frozen=True)
class TauLeaping:
    """`steps` equal steps from t = 1 to 0; jump probabilities are cut at 1; the last step draws from the posterior."""

    steps: int = 128
    revisits = False
    exact_density = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"TauLeaping(steps={self.steps}): needs at least 1 step.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        """Bernoulli "jumps?" first, then the token: float32 cannot hold both in one draw over a large vocabulary."""
        move = start(policy, canvas, chance)
        yield move
        masks = isinstance(policy.process, Absorbing)
        for index in range(self.steps):
            step = torch.full_like(move.x[:, 0], index)
            probability, law = self._jumps(policy, move.x, step, canvas.attend)
            drawn = chance.uniform(2, move.x.shape[1])
            jumps = canvas.free & (drawn[:, 0] < probability)
            x = torch.where(jumps, draw(law, drawn[:, 1]), move.x)
            token = (pick(law, x) / law.sum(-1)).log()
            moved = token if masks else token + probability.log()
            stayed = torch.zeros_like(token) if masks else torch.log1p(-probability)
            log_prob = torch.where(jumps, moved, stayed).masked_fill(~canvas.free, 0.0)
            move = Move(x, (1 - step / self.steps).to(move.t.dtype), log_prob)
            yield move

    def kernel(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step` of each row, given all sites before: probabilities."""
        probability, law = self._jumps(policy, xt, step, attend)
        moving = (probability / law.sum(-1)).nan_to_num(0.0).unsqueeze(-1) * law
        return moving.scatter_add(-1, xt.unsqueeze(-1), (1 - probability).unsqueeze(-1))

    def _jumps(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None) -> tuple[Tensor, Tensor]:
        """The probability [batch length] that a site is redrawn, and its law then, up to a factor."""
        t, last = 1 - step / self.steps, (step == self.steps - 1).unsqueeze(1)
        logits = policy.logits(xt, t, attend)
        posterior = policy.meaning.log_posterior(logits, xt, t, policy.process).exp()
        score = policy.meaning.log_score(logits, xt, t, policy.process).exp().scatter(-1, xt.unsqueeze(-1), 0.0)
        speed = policy.process.schedule.rate(t).unsqueeze(1) * policy.process.limit(xt) / self.steps
        law = torch.where(last.unsqueeze(-1), posterior, score)
        return torch.where(last, 1.0, (speed * law.sum(-1)).clamp_max(1.0)), law
