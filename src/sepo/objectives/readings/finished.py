"""Readings of the finished sequence, one site at a time: what is known about its neighbours at Hamming distance 1.

MaskedConditionals   each of some sites masked alone: Besag's pseudo-likelihood, biased for a chain of dependent sites
RawLogits            the network's raw logits at the clean sequence, as the released SEPO code reads them: outputs that
                     masked diffusion never trains and that no sampler uses
CleanScore           the concrete score of a clean sequence at a small time, read at all sites from one evaluation: the
                     paper's own reading, for processes whose score is defined there (uniform)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import mask_views
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views, rated
from sepo.objectives.readings.base import Where, check_states, require_absorbing
from sepo.ops import Chance
from sepo.typing import Tensor


@dataclass(frozen=True)
class MaskedConditionals(Where):
    """`states` of the free sites, drawn without replacement and reweighted; None: all, one evaluation each."""

    states: int | None = None

    def __post_init__(self) -> None:
        check_states(self.states)

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        canvas, process = rollout.canvas, require_absorbing(process)
        free, n = canvas.free, canvas.free.sum(1, keepdim=True)
        k = n if self.states is None else n.clamp_max(self.states)
        drawn = torch.zeros(free.shape, device=free.device).double()
        if self.states is not None:
            drawn = chance.uniform(free.shape[1])
        rank = drawn.masked_fill(~free, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
        view = torch.arange(int(k.max()), device=free.device)
        masked = (rank.unsqueeze(1) == view[:, None]) & free.unsqueeze(1)
        weight = masked * torch.where(view < k, (n / k).float(), 0.0).unsqueeze(-1)
        return mask_views(rollout.x0, masked & (weight > 0), weight, free, canvas.attend, process)


@dataclass(frozen=True)
class RawLogits(Where):
    """log softmax of the raw logits at x0 itself, over all ids that the process has."""

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return clean_views(rollout, 0.0)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        xt, t, attend = views.flat()
        return rated(views, policy.raw_logits(xt, t, attend).log_softmax(-1), keep=whole)


@dataclass(frozen=True)
class CleanScore(Where):
    """log q_t(x_i | the other sites) = -log sum_v s(x, t)_(i -> v) at x = x0 and a small time."""

    time: float = 0.02

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        if isinstance(process, Absorbing):
            raise ValueError(
                "clean_score reads the score of a sequence without masks, where that of the absorbing process is known "
                "without a network; choose reading='next_site', or 'masked_conditionals' for finished sequences."
            )
        return clean_views(rollout, self.time)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        xt, t, attend = views.flat()
        return rated(views, policy.log_score(xt, t, attend).log_softmax(-1), keep=whole)


def clean_views(rollout: Rollout, time: float) -> Views:
    """One view: the finished sequence, every free site with weight 1."""
    xt: Tensor = rollout.x0.unsqueeze(1)
    weight = rollout.canvas.free.unsqueeze(1).float()
    t = torch.full(xt.shape[:2], time, device=xt.device)
    return Views(xt, t, xt, weight, weight, rollout.canvas.free, rollout.canvas.attend)
