"""Readings at fresh noise on the finished sequence, whatever the sampler: the likelihood bound and its relatives.

FreshMasks      random masks, their number stratified: the bound of the absorbing process in its count form
Complementary   a random mask and its complement, so that a pair reads each free site once
Coupled         everything masked, a random mask and its complement
FullyMasked     everything masked at once: the mean-field guess, one evaluation; given sites masked with some chance
LeftToRight     x0_k given x0_<k and masks: an exact likelihood of the left-to-right sampler, one evaluation per site
FreshNoise      x_t ~ q(. | x0) at random times, rated by minus the score entropy: the bound of any process
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import mask_views, masked_views
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.readings.base import Where, check_states, require_absorbing
from sepo.ops import Chance


@dataclass(frozen=True)
class FreshMasks(Where):
    """`states` fresh masks of the finished sequence, the number masked stratified."""

    states: int | None = 4

    def __post_init__(self) -> None:
        check_states(self.states, endless=True)

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        canvas, masks = rollout.canvas, self.states or 1
        return masked_views(rollout.x0, canvas.free, canvas.attend, require_absorbing(process), chance, masks)


@dataclass(frozen=True)
class Complementary(Where):
    """`pairs` of a random mask and its complement, so that each pair reads every free site once (ESPO, 2512.03759).

    The number masked is uniform on 0 .. n, stratified over pairs; a view of k masks weighs (n + 1) / k, which makes
    either half of a pair an unbiased estimate of the bound.
    """

    pairs: int = 1

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"Complementary(pairs={self.pairs}): needs at least 1 pair of masks per sequence.")

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        free, process = rollout.canvas.free.unsqueeze(1), require_absorbing(process)
        n = free.sum(-1, keepdim=True)
        drawn = chance.uniform(self.pairs, free.shape[-1] + 1)
        strata = torch.arange(self.pairs, device=free.device).unsqueeze(-1)
        count = ((strata + drawn[..., :1]) / self.pairs * (n + 1)).floor().clamp_max(n).long()
        rank = drawn[..., 1:].masked_fill(~free, 2.0).argsort(-1).argsort(-1)
        first = (rank < count) & free
        masked = torch.cat((first, ~first & free), dim=1)
        weight = masked.float() * (n + 1) / masked.sum(-1, keepdim=True).clamp_min(1) / (2 * self.pairs)
        return mask_views(rollout.x0, masked, weight, rollout.canvas.free, rollout.canvas.attend, process)


@dataclass(frozen=True)
class Coupled(Where):
    """Everything masked, then a mask of each site with probability p ~ U(low, high), and its complement.

    Weights 1/2, 1 / (2 p) and 1 / (2 (1 - p)), as in the released coupled-GRPO (DiffuCoder, arXiv 2506.20639): a site
    counts 1.5 times on average.
    """

    low: float = 0.2
    high: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < 1:
            raise ValueError(f"Coupled(low={self.low}, high={self.high}): needs 0 < low <= high < 1.")

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        free, process = rollout.canvas.free.unsqueeze(1), require_absorbing(process)
        drawn = chance.uniform(1, free.shape[-1] + 1)
        p = self.low + (self.high - self.low) * drawn[..., :1]
        first = (drawn[..., 1:] < p) & free
        masked = torch.cat((free, first, ~first & free), dim=1)
        weight = masked / torch.cat((torch.ones_like(p), p, 1 - p), dim=1).float() / 2
        return mask_views(rollout.x0, masked, weight, rollout.canvas.free, rollout.canvas.attend, process)


@dataclass(frozen=True)
class FullyMasked(Where):
    """Every free site masked, given sites masked with probability `prompt`: d1's mean-field (arXiv 2504.12216)."""

    prompt: float = 0.15

    def __post_init__(self) -> None:
        if not 0 <= self.prompt <= 1:
            raise ValueError(f"FullyMasked(prompt={self.prompt}): is the chance to mask a given site; choose 0 to 1.")

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        canvas, process = rollout.canvas, require_absorbing(process)
        drawn = chance.uniform(1, canvas.free.shape[1]) < self.prompt
        attended = torch.ones_like(canvas.free) if canvas.attend is None else canvas.attend
        masked = canvas.free.unsqueeze(1) | (drawn & attended.unsqueeze(1))
        weight = canvas.free.unsqueeze(1).float()
        return mask_views(rollout.x0, masked, weight, canvas.free, canvas.attend, process)


@dataclass(frozen=True)
class LeftToRight(Where):
    """`states` of the states of a left-to-right path, stratified; None: all, and the likelihood is exact."""

    states: int | None = None

    def __post_init__(self) -> None:
        check_states(self.states)

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        canvas, process = rollout.canvas, require_absorbing(process)
        free, n = canvas.free, canvas.free.sum(1, keepdim=True)
        k = n if self.states is None else n.clamp_max(self.states)
        stratum = torch.arange(int(k.max()), device=free.device)
        within = 0.5 if self.states is None else chance.uniform(self.states)[:, : len(stratum)]
        place = ((stratum + within) * n.double() / k).long().clamp(max=n - 1)
        rank = (free.cumsum(1) - 1).masked_fill(~free, -1).unsqueeze(1)
        masked = rank >= place.unsqueeze(-1)
        share = torch.where(stratum < k, (n / k).float(), 0.0).unsqueeze(-1)
        return mask_views(rollout.x0, masked, share * (rank == place.unsqueeze(-1)), free, canvas.attend, process)


@dataclass(frozen=True)
class FreshNoise(Where):
    """`states` times, stratified; log_prob of a site is minus the integrand of its score entropy at x_t ~ q(. | x0)."""

    states: int | None = 4
    earliest: float = 1e-3

    def __post_init__(self) -> None:
        check_states(self.states, endless=True)

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        free, states = rollout.canvas.free, self.states or 1
        drawn = chance.uniform(states, 2 * free.shape[1] + 1)
        strata = torch.arange(states, device=free.device)
        t = ((strata + drawn[..., 0]) / states).clamp(self.earliest, 1.0).float()
        target = rollout.x0.unsqueeze(1).expand(-1, states, -1)
        kept, fresh = drawn[..., 1:].chunk(2, dim=-1)
        redrawn = (kept >= process.schedule.alpha(t).unsqueeze(-1)) & free.unsqueeze(1)
        xt = torch.where(redrawn, process.redraw(fresh.flatten(0, 1)).view(fresh.shape), target)
        weight = free.unsqueeze(1).expand(xt.shape).float() / states
        return Views(xt, t, target, weight, weight, free, rollout.canvas.attend)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        xt, t, attend = views.flat()
        logits, meaning = policy.logits(xt, t, attend), policy.meaning
        log_score = meaning.log_score(logits, xt, t, policy.process)
        entropy = policy.process.score_entropy(log_score, xt, views.target.flatten(0, 1), t)
        log_prob = (-entropy).view(views.xt.shape).masked_fill(views.weight == 0, 0.0)
        if not whole:
            return Reading(log_prob)
        law = meaning.log_posterior(logits, xt, t, policy.process)
        return Reading(log_prob, law.view(*views.xt.shape, -1))
