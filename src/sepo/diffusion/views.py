"""Views: the places where a policy is read, stored so that old, reference and new are read at the same noise.

`weight` makes the sum over views and sites of weight * log p(target_i | x_t) an estimate of the log-probability of the
path, or of the sequence. `hazard` is the same with every site that might have changed in place of those that did, for
terms that have a closed form at a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.ops import pick, rows
from sepo.record import Record
from sepo.typing import Bool, Float, Int, LogProbs, Sites, Time, Tokens


@dataclass(frozen=True, eq=False)
class Views(Record):
    """States x_t, the tokens that are rated there, and the weight of each site in the estimate of log p.

    free: the sites that the sampler filled; step: of the path, where a view is one of its states; draws: uniform
    numbers for what an objective draws at a view (candidates, noise).
    """

    xt: Int[Tensor, "batch view length"]
    t: Float[Tensor, "batch view"]
    target: Int[Tensor, "batch view length"]
    weight: Float[Tensor, "batch view length"]
    hazard: Float[Tensor, "batch view length"]
    free: Sites
    attend: Bool[Tensor, "batch length"] | None = None
    step: Int[Tensor, "batch view"] | None = None
    draws: Float[Tensor, "batch view ..."] | None = None

    def flat(self) -> tuple[Tokens, Time, Sites | None]:
        """xt, t and attend, a row per view."""
        attend = None if self.attend is None else self.attend.repeat_interleave(self.xt.shape[1], dim=0)
        return self.xt.flatten(0, 1), self.t.flatten(), attend


@dataclass(frozen=True, eq=False)
class Reading(Record):
    """What a policy says at views.

    log_prob: of the target at weighted sites, 0 elsewhere; log_law: over the vocabulary at every site, on request;
    value: of the state, from a critic; q: estimated probabilities of the neighbours.
    """

    log_prob: Float[Tensor, "batch view length"]
    log_law: Float[Tensor, "batch view length vocab"] | None = None
    value: Float[Tensor, "batch view"] | None = None
    q: Float[Tensor, "batch view length vocab"] | None = None

    def detach(self) -> Reading:
        return self.map(lambda tensor: tensor.detach())


def read(policy: Denoiser, views: Views, whole: bool = False) -> Reading:
    """log p(target_i | x_t) of the policy at the views: one network evaluation per view.

    `whole` also keeps the law over the vocabulary at every site. Without it only the weighted sites pass through the
    head of the network.
    """
    xt, t, attend = views.flat()
    if whole:
        return rated(views, policy.log_posterior(xt, t, attend), keep=True)
    target, weighted = views.target.flatten(0, 1), views.weight.flatten(0, 1) != 0
    sites = weighted_sites(weighted)
    there = pick(policy.log_posterior(xt, t, attend, sites), rows(target, sites)).masked_fill(
        ~rows(weighted, sites), 0.0
    )
    log_prob = torch.zeros(weighted.shape, device=there.device, dtype=there.dtype).scatter(1, sites, there)
    return Reading(log_prob.view(views.xt.shape))


def rated(views: Views, log_law: LogProbs, keep: bool) -> Reading:
    """The target under a law [batch * view, length, vocab]; keep: the law itself too."""
    weighted = views.weight.flatten(0, 1) != 0
    log_prob = pick(log_law, views.target.flatten(0, 1)).masked_fill(~weighted, 0.0).view(views.xt.shape)
    return Reading(log_prob, log_law.view(*views.xt.shape, -1) if keep else None)


def weighted_sites(weighted: Sites) -> Int[Tensor, "batch k"]:
    """The marked sites of each row first, as many columns as the fullest row has."""
    most = max(int(weighted.sum(-1).max()), 1)
    return weighted.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :most]
