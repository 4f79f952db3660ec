"""Held-out bounds: how many nats a policy needs for data it has not seen (`sepo.diffusion.likelihood`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.likelihood import bound
from sepo.ops import Chance
from sepo.typing import Sites, Tokens


@dataclass(frozen=True)
class HeldOutBound:
    """An upper bound on -log p of held-out sequences, with the standard error of `nats_per_token` over sequences."""

    nats_per_sequence: float
    nats_per_token: float
    standard_error: float
    sequences: int
    tokens: int

    @property
    def bits_per_token(self) -> float:
        return self.nats_per_token / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return math.exp(self.nats_per_token)


def held_out_bound(
    policy: Denoiser,
    x0: Tokens,
    free: Sites | None = None,
    attend: Sites | None = None,
    *,
    seed: int = 0,
    draws: int = 8,
    at_once: int = 64,
) -> HeldOutBound:
    """The bound on the free sites of x0 given the others (free=None: all sites); `draws` evaluations per sequence.

    Raises:
        ValueError: no sequence, or none with a free site.
    """
    free = torch.ones_like(x0, dtype=torch.bool) if free is None else free
    tokens = free.sum(1)
    if len(x0) == 0 or int(tokens.sum()) == 0:
        raise ValueError(f"{len(x0)} sequences with {int(tokens.sum())} free sites: there is nothing to bound.")
    nats = []
    with evaluating(policy.network):
        for start in range(0, len(x0), at_once):
            part = range(len(x0))[start : start + at_once]
            rows = slice(part.start, part.stop)
            chance = Chance.seeded(seed, part, 1, x0.device)
            nats.append(bound(policy, x0[rows], free[rows], chance, None if attend is None else attend[rows], draws))
    total = torch.cat(nats).double()
    per_token = float(total.sum() / tokens.sum())
    residual = total - per_token * tokens
    error = float(residual.square().sum().sqrt() / tokens.sum())
    return HeldOutBound(float(total.mean()), per_token, error, len(x0), int(tokens.sum()))
