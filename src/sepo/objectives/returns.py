r"""Returns: the reward of the finished sequence, less the price of the steps of its path.

    whole    R - beta log(p / p_ref)(path), the same at every step
    to_go    R - beta sum over k >= j of log(p / p_ref)(step k), from step j on

Both have the same mean gradient, since E[grad log p(step j) x log-ratio(step k < j)] = 0. One would drop what lies
behind a step as mere variance, and a critic does: its value knows the state. But where the policy is
p_ref exp(R / beta) / Z, what has been paid so far is beta times the growth of the state's value, so that the whole
return is the same for every path and has no variance left: it brings its own baseline. Groups are compared by whole
returns (see docs/laboratory.md).
"""

from __future__ import annotations

from sepo.typing import Float, PerSequence, Tensor

PerStep = Float[Tensor, "batch steps"]


def whole(reward: PerSequence, log_ratio: PerStep, beta: float) -> PerStep:
    """beta: reward per nat; log_ratio: of each step, in nats. NaN rewards give NaN returns."""
    returns = reward - beta * log_ratio.sum(1)
    return returns.unsqueeze(1).repeat(1, log_ratio.shape[1])


def to_go(reward: PerSequence, log_ratio: PerStep, beta: float) -> PerStep:
    """The same from each step on."""
    return reward.unsqueeze(1) - beta * log_ratio.flip(1).cumsum(1).flip(1)
