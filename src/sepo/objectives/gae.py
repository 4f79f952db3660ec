r"""Generalised advantage estimation over denoising steps (Schulman et al., arXiv 1506.02438, eq. 16; gamma = 1).

    delta_j = r_j + V_(j+1) - V_j,   A_j = sum over k >= 0 of lambda^k delta_(j+k),   target_j = A_j + V_j

r_j is the price of step j, -beta log(p / p_ref)(step j), and at the last step also the reward of the sequence; the
value of the finished sequence is 0, because its reward is paid. Only steps in which something appeared are steps here.
lambda = 1 is the return to go less the value: unbiased whatever the critic says. Less than 1 trusts the critic.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sepo.typing import Bool, Float, PerSequence

PerStep = Float[Tensor, "batch steps"]


def generalised_advantage(
    reward: PerSequence, price: PerStep, value: PerStep, active: Bool[Tensor, "batch steps"], gae_lambda: float
) -> PerStep:
    """A of each active step, 0 elsewhere. reward: of the finished sequence; price: of each step, in reward."""
    advantage = torch.zeros_like(value)
    after, ahead = reward.to(value), torch.zeros_like(value[:, 0])
    for step in reversed(range(value.shape[1])):
        here = active[:, step]
        delta = after - price[:, step].to(value) - value[:, step]
        ahead = torch.where(here, delta + gae_lambda * ahead, ahead)
        after = torch.where(here, value[:, step], after)
        advantage[:, step] = torch.where(here, ahead, 0.0)
    return advantage


def whitened(advantage: PerStep, counted: Bool[Tensor, "batch steps"], gather: Callable[[Tensor], Tensor]) -> PerStep:
    """With mean 0 and standard deviation 1 over the counted steps of all processes, 0 elsewhere."""
    known = torch.where(counted, advantage, 0.0).double()
    sums = torch.stack([counted.sum().double(), known.sum(), known.square().sum()])
    number, total, squares = gather(sums.unsqueeze(0)).sum(0)
    mean = total / number.clamp_min(1)
    variance = (squares / number.clamp_min(1) - mean.square()).clamp_min(0)
    white = (known - mean) / (variance.sqrt() + 1e-8)
    return torch.where(counted, white, 0.0).to(advantage)
