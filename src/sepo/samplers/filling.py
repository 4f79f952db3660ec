"""Filling a masked canvas when the order of the sites does not depend on the network.

Each free site has a hitting time: the moment of the reverse process at which its mask becomes a token. Under the
absorbing process these are independent of everything else, P(still masked at s) = (1 - alpha(s)) / (1 - alpha(1)), so
they are drawn first and the network is evaluated only where something appears, at the sites that appear (Masked
Diffusion Models are Secretly Time-Agnostic Masked Models, arXiv 2409.02908, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.ops import Chance, draw, pick, rows
from sepo.samplers.base import Move, start
from sepo.typing import Float, Tokens


def hitting_times(policy: Denoiser, canvas: Canvas, chance: Chance) -> Float[Tensor, "batch length"]:
    """A time in [0, 1] for each free site, -1 for given ones. What the process leaves masked at t = 0 hits there."""
    schedule = policy.process.schedule
    remaining = 1 - schedule.alpha(torch.ones((), dtype=torch.float64))
    hits = schedule.time(1 - chance.uniform(canvas.tokens.shape[1]) * remaining)
    return hits.clamp(0.0, 1.0).masked_fill(~canvas.free, -1.0)


def fill(
    policy: Denoiser, canvas: Canvas, order: Tokens, times: Float[Tensor, "batch steps"], chance: Chance
) -> Iterator[Move]:
    """Reveal the sites step by step: in step j those with order j, together, from one evaluation at times[:, j]."""
    move = start(policy, canvas, chance)
    yield move
    drawn = chance.uniform(canvas.tokens.shape[1])
    ranked = order.argsort(dim=1, stable=True)
    count = order.new_zeros(len(order), times.shape[1] + 1).scatter_add(1, order + 1, torch.ones_like(order))
    first, count = (count.cumsum(1) - count)[:, 1:], count[:, 1:]
    active_first = (count == 0).to(torch.int8).argsort(dim=0, stable=True)
    sizes = torch.stack(((count > 0).sum(0), count.amax(0)), dim=1).tolist()  # the only wait for the device
    x = move.x
    for step, (active, most) in enumerate(sizes):
        t = times[:, step].to(move.t.dtype)
        log_prob = torch.zeros_like(move.log_prob)
        if active:
            here = active_first[:active, step]
            place = torch.arange(most, device=x.device)
            sites = ranked[here].gather(1, (first[here, step, None] + place).clamp_max(x.shape[1] - 1))
            appears = order[here].gather(1, sites) == step
            attend = None if canvas.attend is None else canvas.attend[here]
            law = policy.log_posterior(x[here], t[here], attend, sites)
            tokens = draw(law.exp(), rows(drawn[here], sites))
            x = _place(x, here, sites, torch.where(appears, tokens, rows(x[here], sites)))
            log_prob = _place(log_prob, here, sites, pick(law, tokens).masked_fill(~appears, 0.0))
        yield Move(x, t, log_prob)


def require_absorbing(policy: Denoiser, sampler: str) -> Absorbing:
    if not isinstance(policy.process, Absorbing):
        raise ValueError(
            f"{sampler} fills masks, but the process is {type(policy.process).__name__}; use Ancestral or TauLeaping."
        )
    return policy.process


def _place(values: Tensor, here: Tensor, sites: Tensor, new: Tensor) -> Tensor:
    """`values` with values[here[r], sites[r, j]] = new[r, j]."""
    values = values.clone()
    values[here.unsqueeze(1), sites] = new.to(values.dtype)
    return values
