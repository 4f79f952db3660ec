"""Views: the places where a policy is read, stored so that old, reference and new are read at the same noise.

`weight` makes the sum over views and sites of weight * log p(x0_i | x_t) an estimate of the log-probability of the
path. `hazard` is the same with every masked site in place of the revealed one, for terms that have a closed form at a
state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.ops import pick, rows
from sepo.record import Record
from sepo.typing import Bool, Float, Int, Tokens


@dataclass(frozen=True, eq=False)
class Views(Record):
    """States x_t of the sequences x0, with the weight of each site in the estimate of log p."""

    xt: Int[Tensor, "batch view length"]
    t: Float[Tensor, "batch view"]
    x0: Tokens
    weight: Float[Tensor, "batch view length"]
    hazard: Float[Tensor, "batch view length"]
    attend: Bool[Tensor, "batch length"] | None = None


@dataclass(frozen=True, eq=False)
class Reading(Record):
    """What a policy says at views: log p(x0_i | x_t) at weighted sites (0 elsewhere), and the whole law on request."""

    log_prob: Float[Tensor, "batch view length"]
    log_posterior: Float[Tensor, "batch view length vocab"] | None = None

    def detach(self) -> Reading:
        return self.map(lambda tensor: tensor.detach())


def read(policy: Denoiser, views: Views, whole: bool = False) -> Reading:
    """The policy at the views: one network evaluation per view.

    `whole` also keeps the law over the vocabulary at every site. Without it only the weighted sites pass through the
    head of the network.
    """
    batch, view, length = views.xt.shape
    xt, t = views.xt.flatten(0, 1), views.t.flatten()
    tokens = views.x0.repeat_interleave(view, dim=0)
    attend = None if views.attend is None else views.attend.repeat_interleave(view, dim=0)
    weighted = views.weight.flatten(0, 1) != 0
    if whole:
        log_posterior = policy.log_posterior(xt, t, attend)
        log_prob = pick(log_posterior, tokens).masked_fill(~weighted, 0.0)
        return Reading(log_prob.view(batch, view, length), log_posterior.view(batch, view, length, -1))
    most = max(int(weighted.sum(-1).max()), 1)
    sites = weighted.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :most]
    there = pick(policy.log_posterior(xt, t, attend, sites), rows(tokens, sites)).masked_fill(
        ~rows(weighted, sites), 0.0
    )
    log_prob = torch.zeros(weighted.shape, device=there.device, dtype=there.dtype).scatter(1, sites, there)
    return Reading(log_prob.view(batch, view, length))
