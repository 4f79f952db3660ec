r"""Best of n: each row is drawn n times, and the draw of the highest reward is kept; the first one of several.

With F(r) the probability that a draw's reward is at most r, and F(r-) below it,

    P(x) = p(x) / (F(r(x)) - F(r(x)-))  (F(r(x))^n - F(r(x)-)^n)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance
from sepo.samplers.base import Move, Sampler
from sepo.samplers.guided.scoring import TokenReward, score


@dataclass(frozen=True)
class BestOfN:
    """inner: any sampler; costs n times as much as it. Moves hold its log-probabilities."""

    inner: Sampler
    reward: TokenReward
    n: int
    exact_density = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"BestOfN(n={self.n}): needs at least 1 draw.")

    @property
    def revisits(self) -> bool:
        return self.inner.revisits

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        several = replace(chance, rows=chance.rows * self.n)
        moves = list(self.inner(policy, canvas.repeat(self.n), several))
        best = score(self.reward, moves[-1].x).view(-1, self.n).argmax(1)
        row = best + self.n * torch.arange(len(best), device=best.device)
        for move in moves:
            yield move[row]
