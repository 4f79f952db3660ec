r"""DPLM's decoding: every step predicts all sites anew, keeps the most certain ones and masks the others again.

Its 'reparam-uncond-deterministic-linear' (Diffusion Language Models Are Versatile Protein Learners, arXiv 2402.18567;
A Reparameterized Discrete Diffusion Model, arXiv 2302.05737.) With logits l, Gumbel noise g and L free sites,

    v_i = argmax_v (l_iv + temperature g_iv)          score_i = log softmax(l_i + temperature g_i) at v_i

and step j of T leaves the ceil(L j / T) sites of highest score: those that were masked become v_i, those that were not
keep the token that they have, and all others are masks. The score of a revealed site is that of its new draw, and so
the network is read there as it is, without carry-over: DPLM began as a masked language model that was trained to know
such sites, and others may say anything there. Its resampling of residues that are too frequent is left out.

Which sites are kept depends on the noise that drew the tokens. What is recorded is the log-probability of each token
under the unperturbed posterior when it appeared; it is NOT the density of the path, which is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, pick, rows
from sepo.samplers.base import Move, start
from sepo.samplers.filling import require_absorbing
from sepo.samplers.gumbel import gumbel
from sepo.typing import Float, Int


@dataclass(frozen=True)
class DPLM:
    """steps: each evaluates every row, whatever its length; temperature: of the noise, 0 takes the likeliest tokens."""

    steps: int = 500
    temperature: float = 1.0
    revisits = True
    exact_density = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"DPLM(steps={self.steps}): needs at least 1 step.")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature={self.temperature}: must be 0 or more; 1 is DPLM's, 0 takes the likeliest tokens."
            )

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        process = require_absorbing(policy, "DPLM")
        free = canvas.free.sum(1, keepdim=True)
        sites = canvas.free.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : int(free.max())]
        given = ~rows(canvas.free, sites)
        move = start(policy, canvas, chance)
        yield move
        for step in range(self.steps):
            t = torch.full_like(move.t, 1 - step / self.steps)
            logits = policy.logits(move.x, t, canvas.attend, sites)
            uniform = rows(chance.uniform(canvas.tokens.shape[1], logits.shape[-1]), sites)
            tokens, score = self._predict(logits, uniform)
            best = score.masked_fill(given, -torch.inf).argsort(dim=1, descending=True, stable=True)
            keeps = best.argsort(dim=1) < -torch.div(-free * (step + 1), self.steps, rounding_mode="floor")
            before = rows(move.x, sites)
            appears = keeps & (before == process.mask)
            after = torch.where(appears, tokens, before.masked_fill(~keeps & ~given, process.mask))
            log_prob = pick(logits.log_softmax(-1), tokens).masked_fill(~appears, 0.0)
            nothing = torch.zeros_like(move.log_prob)
            move = Move(move.x.scatter(1, sites, after), t, nothing.scatter(1, sites, log_prob.to(nothing.dtype)))
            yield move

    def _predict(
        self, logits: Float[Tensor, "batch sites vocab"], uniform: Float[Tensor, "batch sites vocab"]
    ) -> tuple[Int[Tensor, "batch sites"], Float[Tensor, "batch sites"]]:
        """The perturbed best token of each site, and its score."""
        score, tokens = (logits + self.temperature * gumbel(uniform)).log_softmax(-1).max(-1)
        return tokens, score
