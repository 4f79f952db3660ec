r"""SVDD: of several candidates for each step one is taken, by what it is worth (arXiv 2408.08252, algorithm 1).

    x^1 .. x^M ~ k(. | x),   x' = x^m with probability proportional to exp(v(x^m) / beta);   beta = 0: the best

With v the soft value beta log E[exp(r / beta) | x] its law is p exp(r / beta) / Z as M grows; with an estimate of it,
nearly. Unlike particles, rows do not know of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, draw
from sepo.samplers.base import KernelSampler, Move, Steps, start
from sepo.samplers.guided.hearing import Heard, hear, log_prob_of, require_kernel
from sepo.samplers.guided.scoring import TokenReward, score
from sepo.samplers.guided.values import ArgmaxFill, Standing, Value
from sepo.typing import Float, Tokens


@dataclass(frozen=True)
class SVDD:
    """reward: of finished tokens; value: of candidates on the way, None: `ArgmaxFill` (SVDD-PM); beta: reward per nat.

    Evaluations per row: one per step, and one per candidate where the value reads the posterior there (the chosen
    one's serves its next step). Moves hold the inner sampler's log-probabilities of what was chosen.
    """

    inner: KernelSampler
    reward: TokenReward
    candidates: int
    beta: float = 0.0
    value: Value | None = None
    exact_density = False

    def __post_init__(self) -> None:
        require_kernel(self.inner, "SVDD")
        if self.candidates < 1 or self.beta < 0:
            raise ValueError(
                f"SVDD(candidates={self.candidates}, beta={self.beta}): needs at least 1 candidate, and beta of 0 or "
                "more; 0 takes the best."
            )

    @property
    def revisits(self) -> bool:
        return self.inner.revisits

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        move = start(policy, canvas, chance)
        yield move
        x, several = move.x, canvas.repeat(self.candidates)
        heard: Heard | None = None
        for index in range(self.inner.steps):
            if heard is None:
                heard = hear(self.inner, policy, x, torch.full_like(x[:, 0], index), canvas.attend)
            drawn = chance.uniform(self.candidates, x.shape[1]).unbind(1)
            after = torch.stack([torch.where(canvas.free, draw(heard.law, each), x) for each in drawn], dim=1)
            worth, there = self._worth(policy, several, after.flatten(0, 1), index + 1, chance)
            row = self._choose(worth.view(len(x), -1), chance.uniform(1))
            chosen = after.flatten(0, 1)[row]
            log_prob = log_prob_of(self.inner, policy.process, heard.law, x, chosen, canvas.free)
            yield Move(chosen, heard.t, log_prob)
            x, heard = chosen, None if there is None else there[row]

    def _worth(
        self, policy: Denoiser, canvas: Canvas, x: Tokens, done: int, chance: Chance
    ) -> tuple[Tensor, Heard | None]:
        """The value of each candidate, and what was heard there, if anything was."""
        if done == self.inner.steps:
            return score(self.reward, x), None
        value, step = self.value or ArgmaxFill(self.reward), torch.full_like(x[:, 0], done)
        heard = hear(self.inner, policy, x, step, canvas.attend) if value.reads_posterior else None
        standing = Standing(x, step, canvas.free, None if heard is None else heard.log_posterior)
        return value(standing, replace(chance, rows=chance.rows * self.candidates)), heard

    def _choose(self, worth: Float[Tensor, "batch candidates"], uniform: Float[Tensor, "batch 1"]) -> Steps:
        """Rows of all candidates, one for each row."""
        chosen = worth.argmax(1) if self.beta == 0 else draw((worth / self.beta).softmax(1), uniform[:, 0])
        return chosen + self.candidates * torch.arange(len(worth), device=worth.device)
