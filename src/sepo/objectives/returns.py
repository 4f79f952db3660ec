r"""Returns of steps: the reward of the finished sequence, less the price of the steps from there on.

    G_j = R - beta sum over k >= j of log(p / p_ref)(step k)

The log-ratio of earlier steps is no consequence of step j: E[grad log p(step j) x log-ratio(step k < j)] = 0, so
leaving it out changes no mean and lowers the variance.
"""

from __future__ import annotations

from torch import Tensor

from sepo.typing import Float, PerSequence


def to_go(reward: PerSequence, log_ratio: Float[Tensor, "batch steps"], beta: float) -> Float[Tensor, "batch steps"]:
    """beta: reward per nat; log_ratio: of each step, in nats. NaN rewards give NaN returns."""
    return reward.unsqueeze(1) - beta * log_ratio.flip(1).cumsum(1).flip(1)
