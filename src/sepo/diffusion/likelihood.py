r"""Log-probabilities: of the path a sampler took, exactly; of a sequence, as a bound.

The order of a masked path does not depend on the network, so that p(path) = p(order) prod_i p(x0_i | state before i
appeared). The bound is the expectation of its logarithm over fresh orders, in the form of low variance that counts
masked sites:

    -log p(x0) <= E_{k ~ U{1..n}} (n / k) sum_{i in A} -log p(x0_i | x0 with A masked),   |A| = k uniform

(Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data, arXiv 2406.03736,
eq. 13 ff.; Large Language Diffusion Models, arXiv 2502.09992, eq. 14). For other processes, and networks that see the
time, it is the integral of the score entropy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import Views, read
from sepo.ops import Chance
from sepo.typing import Bool, Float, PerSequence, Sites, Tokens

TOKENS_AT_ONCE = 16_384
"""Tokens in a forward of `path_log_prob`, unless the path's own rows are more."""


def path_log_prob(policy: Denoiser, path: MaskedPath, at_once: int | None = None) -> Float[Tensor, "batch length"]:
    """log p(x0_i | state before site i appeared), per site, 0 where given.

    Its sum is log p(path) up to the constant of the order. One network evaluation per state in which something
    appeared; `at_once` of them per forward (None: as many rows as the rollout had, or short sequences together).
    """
    process = policy.process
    if not isinstance(process, Absorbing):
        raise ValueError(f"A masked path needs the absorbing process, but the model's is {type(process).__name__}.")
    row, step = path.active().nonzero(as_tuple=True)
    at_once = max(len(path), TOKENS_AT_ONCE // path.x0.shape[1]) if at_once is None else at_once
    log_prob = torch.zeros_like(path.log_prob)
    for rows_, steps in zip(row.split(at_once), step.split(at_once), strict=True):
        part = path[rows_]
        views = state_views(part, steps.unsqueeze(1), process)
        log_prob = log_prob.index_add(0, rows_, read(policy, views).log_prob.squeeze(1).to(log_prob.dtype))
    return log_prob


def state_views(path: MaskedPath, steps: Tensor, process: Absorbing, share: Tensor | None = None) -> Views:
    """Views of the given steps [batch view].

    The weight is `share` [batch view] (1 if None) at the sites revealed there. The hazard spreads the same weight over
    all sites that are masked, share * (number revealed) / (number masked), unless the path is ordered.
    """
    share = torch.ones(steps.shape, device=steps.device) if share is None else share
    masked, revealed = path.masked(steps), path.revealed(steps)
    return Views(
        xt=path.states(steps, process.mask),
        t=path.times.gather(1, steps),
        target=path.x0.unsqueeze(1).expand_as(masked),
        weight=share.unsqueeze(-1) * revealed,
        hazard=share.unsqueeze(-1) * path.hazard(masked, revealed.to(share.dtype)),
        free=path.canvas.free,
        attend=path.canvas.attend,
        step=steps,
    )


def masked_views(
    x0: Tokens, free: Sites, attend: Sites | None, process: Absorbing, chance: Chance, views: int = 1
) -> Views:
    """Fresh random masks of the free sites, their number stratified over views: the count form of the bound above."""
    return masked_by(chance.uniform(views, x0.shape[1] + 1), x0, free, attend, process)


def masked_by(
    drawn: Float[Tensor, "batch view more"], x0: Tokens, free: Sites, attend: Sites | None, process: Absorbing
) -> Views:
    """The same from uniform numbers: the first of a view is its noise level, the others are the order of the sites."""
    views, n = drawn.shape[1], free.sum(1, keepdim=True)
    strata = torch.arange(views, device=x0.device)
    count = (((strata + drawn[..., 0]) / views * n).floor().clamp_max(n - 1).long() + 1).clamp_min(1)
    rank = drawn[..., 1:].masked_fill(~free.unsqueeze(1), 2.0).argsort(-1).argsort(-1)
    masked = (rank < count.unsqueeze(-1)) & free.unsqueeze(1)
    weight = (n / count / views).unsqueeze(-1).float() * masked
    return mask_views(x0, masked, weight, free, attend, process)


def mask_views(
    x0: Tokens,
    masked: Bool[Tensor, "batch view length"],
    weight: Float[Tensor, "batch view length"],
    free: Sites,
    attend: Sites | None,
    process: Absorbing,
) -> Views:
    """Views of x0 under the given masks, at the time at which so large a share of the free sites is masked."""
    target = x0.unsqueeze(1).expand_as(masked)
    noise = (masked & free.unsqueeze(1)).sum(-1) / free.sum(1, keepdim=True).clamp_min(1)
    t = process.schedule.time(1 - noise * (1 - process.schedule.alpha(torch.ones((), device=x0.device))))
    return Views(target.masked_fill(masked, process.mask), t, target, weight, weight, free, attend)


@torch.no_grad()
def bound(
    policy: Denoiser, x0: Tokens, free: Sites, chance: Chance, attend: Sites | None = None, draws: int = 8
) -> PerSequence:
    """An upper bound on -log p(x0) of the free sites given the others, [batch] in nats; `draws` evaluations each."""
    return denoising_loss(policy, x0, free, chance, attend, draws)


def denoising_loss(
    policy: Denoiser, x0: Tokens, free: Sites, chance: Chance, attend: Sites | None = None, draws: int = 1
) -> PerSequence:
    """The same with gradient: the pretraining loss, in the count form where the process and the network allow it."""
    if isinstance(policy.process, Absorbing) and policy.time_free:
        views = masked_views(x0, free, attend, policy.process, chance, draws)
        return -(views.weight * read(policy, views).log_prob).sum((1, 2))
    losses = []
    for draw_ in range(draws):
        uniform = chance.uniform(1)[:, 0]
        t = ((draw_ + uniform) / draws).clamp(1e-4, 1.0).float()
        xt = policy.process.corrupt(x0, t, free, chance)
        entropy = policy.process.score_entropy(policy.log_score(xt, t, attend), xt, x0, t)
        losses.append((entropy * free).sum(1))
    return torch.stack(losses).mean(0)
