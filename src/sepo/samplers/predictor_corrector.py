r"""Predictor-corrector sampling: the gradient flow of SEPO (arXiv 2502.01384, section 3.3; Campbell et al. 2205.14987).

After a predictor step to time s, corrector steps at that time simulate the generator Q + Q_reverse,

    x_i -> y   at the rate  rate(s) (pi(y) + pi(x_i) s(x, s)_y),

which leaves q_s as it is and lets KL(. || q_s) fall. A step of length size (1 - alpha) / rate moves a site with
probability of the order of `size`, whatever the time and the network:

    masks     a token is masked with probability size (1 - alpha), a mask filled with size alpha
    uniform   x_i -> y with probability size (1 - alpha) (1 + s_y) / V, at most 2 size in all

All sites move together, so that the marginal is kept up to O(size^2) per step. A move is drawn and rated by one law.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance
from sepo.samplers.base import Move, Steps, resample
from sepo.typing import LogProbs, Sites, Tokens


@dataclass(frozen=True)
class PredictorCorrector:
    """predictor_steps: of the grid from 1 to 0; corrector_steps: after each but the last, from `from_time` on.

    size: of a corrector step, at most 0.5.
    """

    predictor_steps: int = 64
    corrector_steps: int = 1
    size: float = 0.2
    from_time: float = 1.0
    revisits = True
    exact_density = True

    def __post_init__(self) -> None:
        if self.predictor_steps < 1 or self.corrector_steps < 0:
            raise ValueError(
                f"PredictorCorrector(predictor_steps={self.predictor_steps}, corrector_steps={self.corrector_steps}): "
                "needs at least 1 predictor step and no negative number of corrector steps."
            )
        if not 0 < self.size <= 0.5:
            raise ValueError(
                f"size={self.size}: a corrector step may move a site with probability 2 size at most; choose 0 to 0.5."
            )

    @cached_property
    def moves(self) -> tuple[tuple[float, float, bool], ...]:
        """(time before, time after, whether it is a corrector step) of each move."""
        found = []
        for step in range(self.predictor_steps):
            t, s = 1 - step / self.predictor_steps, 1 - (step + 1) / self.predictor_steps
            found.append((t, s, False))
            if 0 < s <= self.from_time and step < self.predictor_steps - 1:
                found += [(s, s, True)] * self.corrector_steps
        return tuple(found)

    @property
    def steps(self) -> int:
        """All moves, predictor's and corrector's; each costs one evaluation."""
        return len(self.moves)

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        times = torch.tensor([move[0] for move in self.moves], device=canvas.tokens.device)
        return resample(self, policy, canvas, chance, times)

    def kernel(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after move `step` of each row, given all sites before: probabilities."""
        t, s, corrects = (torch.tensor(column, device=xt.device)[step] for column in zip(*self.moves, strict=True))
        logits, process = policy.logits(xt, t, attend), policy.process
        posterior = policy.meaning.log_posterior(logits, xt, t, process)
        predicted = process.reverse(posterior, xt, t, torch.where(corrects, t / 2, s))
        last = (step == self.steps - 1)[:, None, None]
        predicted = torch.where(last, posterior.exp(), predicted)
        score = policy.meaning.log_score(logits, xt, t, process).exp()
        return torch.where(corrects[:, None, None], self._corrected(policy, xt, t, score), predicted)

    def _corrected(self, policy: Denoiser, xt: Tokens, t: Tensor, score: LogProbs) -> LogProbs:
        process = policy.process
        share = self.size * (1 - process.schedule.alpha(t))[:, None, None]
        jumps = share * (process.limit_law(xt.device) + process.limit(xt).unsqueeze(-1) * score)
        jumps = jumps.scatter(-1, xt.unsqueeze(-1), 0.0)
        total = jumps.sum(-1, keepdim=True)
        jumps = jumps / total.clamp_min(1.0)
        return jumps.scatter(-1, xt.unsqueeze(-1), (1 - total).clamp_min(0.0))
