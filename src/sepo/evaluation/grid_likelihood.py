r"""The log-likelihood of finished sequences under a masked model, as DNA benchmarks report it: a bound on a time grid.

With m_i the share of masks at t_i, 1 = t_0 > ... > t_K = 1e-5 evenly spaced, and x_i drawn from q_(t_i)(. | x0),

    log p(x0) >= E sum_(i<K) (m_i - m_(i+1)) / m_i  sum_l 1[x_i,l is a mask] log p(x0_l | x_i)

up to what is masked at t_K and what is not at t_0, a share of 1e-3 (MDLM, arXiv 2406.07524, eq. 8; Fine-Tuning Discrete
Diffusion Models via Reward Optimization, arXiv 2410.13643, section 6.1, where K = 128 and one x_i is drawn for each
t_i). The count form of `sepo.diffusion.likelihood.bound` has the same limit as K grows, and needs fewer evaluations for
the same error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.process import Absorbing
from sepo.diffusion.views import Views, read
from sepo.ops import Chance
from sepo.typing import Float, PerSequence, Tokens

END = 1e-5
"""The last time of the grid."""


def grid(policy: Denoiser, steps: int) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"], Tensor]:
    """The times t_i, the shares of masks m_i there, and the weights (m_i - m_(i+1)) / m_i, [steps] each."""
    times = torch.linspace(1, END, steps + 1, dtype=torch.double)
    masked = 1 - policy.process.schedule.alpha(times)
    return times[:-1], masked[:-1], (masked[:-1] - masked[1:]) / masked[:-1]


@torch.no_grad()
def grid_log_likelihood(
    policy: Denoiser,
    x0: Tokens,
    *,
    steps: int = 128,
    draws: int = 1,
    seed: int = 0,
    first: int = 0,
    at_once: int = 256,
) -> PerSequence:
    """The bound for each sequence, [batch] in nats, on the CPU; steps * draws network evaluations each.

    What a sequence gets depends on the seed and its place only, so that parts computed one after the other, `first`
    being the place of a part's first sequence, are those of the whole; `at_once` rows share a forward.

    Raises:
        ValueError: the process is not absorbing, or there is nothing to draw.
    """
    if not isinstance(policy.process, Absorbing):
        raise ValueError(
            f"The bound on a grid needs the absorbing process, but the model's is {type(policy.process).__name__}: "
            "sepo.diffusion.likelihood.bound takes any."
        )
    if steps < 1 or draws < 1:
        raise ValueError(f"steps={steps}, draws={draws}: must be at least 1.")
    found = []
    with evaluating(policy.network):
        for start in range(0, len(x0), at_once):
            part = x0[start : start + at_once].to(policy.device)
            places = range(first + start, first + start + len(part))
            found.append(_of_rows(policy, part, Chance.seeded(seed, places, 1, policy.device), steps, draws).cpu())
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.double)


def _of_rows(policy: Denoiser, x0: Tokens, chance: Chance, steps: int, draws: int) -> PerSequence:
    total = torch.zeros(len(x0), dtype=torch.double, device=x0.device)
    times, shares, weights = (each.to(x0.device) for each in grid(policy, steps))
    for _ in range(draws):
        for t, share, weight in zip(times, shares, weights, strict=True):
            masked = (chance.uniform(x0.shape[1]) < share).unsqueeze(1)
            views = _views(policy, x0, t, masked)
            total += weight * read(policy, views).log_prob.double().sum((1, 2)) / draws
    return total


def _views(policy: Denoiser, x0: Tokens, t: Tensor, masked: Tensor) -> Views:
    """One view per row, in which the marked sites are rated with weight 1."""
    target, mask = x0.unsqueeze(1), policy.process.mask  # type: ignore[attr-defined]
    free = torch.ones_like(x0, dtype=torch.bool)
    at = t.float().expand(len(x0), 1)
    return Views(target.masked_fill(masked, mask), at, target, masked.float(), masked.float(), free)
