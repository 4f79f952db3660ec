"""Gibbs correction: sites chosen at random are masked, one at a time, and drawn again given all others.

Exact: where the network's conditionals belong to a law, that law is left as it is. Sites chosen by confidence would not
leave it so. Its steps choose a site, and have no law per site: a trainer reads such rollouts at fresh masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, draw, pick
from sepo.samplers.base import Move
from sepo.samplers.filling import require_absorbing
from sepo.samplers.first_hitting import FirstHitting
from sepo.typing import Tokens


@dataclass(frozen=True)
class Gibbs:
    """steps: of `FirstHitting`, None: one site each; sweeps: corrections after it, as a share of the row's sites."""

    steps: int | None = None
    sweeps: float = 1.0
    revisits = True
    exact_density = True

    def __post_init__(self) -> None:
        FirstHitting(self.steps)
        if self.sweeps < 0:
            raise ValueError(f"sweeps={self.sweeps}: must not be negative; 1 redraws as many sites as there are.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        process = require_absorbing(policy, "Gibbs")
        x = canvas.tokens
        for move in FirstHitting(self.steps)(policy, canvas, chance):
            x = move.x
            yield move
        number = (self.sweeps * canvas.free.sum(1, keepdim=True)).round()
        for index in range(int(number.max())):
            drawn = chance.uniform(2)
            site = choose(canvas, drawn[:, 0])
            masked = x.scatter(1, site, process.mask)
            noise = (1 - process.schedule.alpha(torch.ones((), device=x.device))) / canvas.free.sum(1)
            t = process.schedule.time(1 - noise)
            law = policy.log_posterior(masked, t, canvas.attend, site)[:, 0]
            token = draw(law.exp(), drawn[:, 1])
            x = torch.where(index < number, x.scatter(1, site, token.unsqueeze(1)), x)
            log_prob = torch.zeros_like(x, dtype=law.dtype).scatter(1, site, pick(law, token).unsqueeze(1))
            log_prob = log_prob.masked_fill(index >= number, 0.0)
            yield Move(x, t.to(torch.get_default_dtype()), log_prob.to(torch.get_default_dtype()))


def choose(canvas: Canvas, uniform: torch.Tensor) -> Tokens:
    """One free site of each row [batch 1], all as likely."""
    free = canvas.free.sum(1)
    rank = (uniform * free).long().clamp(max=free - 1)
    return ((canvas.free.cumsum(1) - 1 == rank.unsqueeze(1)) & canvas.free).to(torch.int8).argmax(1, keepdim=True)
