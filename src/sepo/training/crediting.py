"""Credit by a critic: the values of a path's states stand where a group's comparison stands without one.

With lambda = 1 the advantage of a state is its return to go less its value, and the value is read in the forward of the
loss: nothing is evaluated here. Less than 1, or whitened, it needs the values of all states of the path: one evaluation
each, once per collection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import TOKENS_AT_ONCE
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.valued import read_with_value
from sepo.objectives import Credit
from sepo.objectives.gae import generalised_advantage, whitened
from sepo.objectives.readings import Where
from sepo.objectives.returns import to_go
from sepo.ops import Chance
from sepo.typing import Float, PerSequence


@dataclass(frozen=True)
class ByCritic:
    """reading: of every state of a path, where their values are needed at collection; None: values come with the loss.

    whiten: advantages of a collection with mean 0 and standard deviation 1.
    """

    reading: Where | None = None
    gae_lambda: float = 1.0
    whiten: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.gae_lambda <= 1:
            raise ValueError(
                f"gae_lambda={self.gae_lambda}: choose 0 (trust the critic) to 1 (trust the returns), such as 0.95."
            )
        if self.reading is None and (self.gae_lambda < 1 or self.whiten):
            raise ValueError(
                f"gae_lambda={self.gae_lambda}, whiten={self.whiten} need the values of all states of a path: give a "
                "reading of them, such as NextSite(None)."
            )

    def __call__(
        self,
        policy: Denoiser,
        rollout: Rollout,
        reward: PerSequence,
        price: Float[Tensor, "batch steps"],
        log_ratio: PerSequence,
        gather: Callable[[Tensor], Tensor],
    ) -> Credit:
        """reward: NaN where none applies; price: of each step, in reward; log_ratio: of each path, in nats."""
        known = ~reward.isnan().unsqueeze(1)
        if self.reading is None:
            returns = to_go(reward, price, 1.0)
            return Credit(torch.where(known, returns, 0.0), reward, log_ratio, target=returns)
        value = path_values(policy, rollout, self.reading).to(price)
        active = rollout.active()
        advantage = generalised_advantage(reward.nan_to_num(0.0), price, value, active, self.gae_lambda)
        target = torch.where(known, advantage + value, torch.nan)
        advantage = torch.where(known, advantage, 0.0)
        if self.whiten:
            advantage = whitened(advantage, active & known, gather)
        return Credit(advantage, reward, log_ratio, value, target)


@torch.no_grad()
def path_values(policy: Denoiser, rollout: Rollout, reading: Where) -> Float[Tensor, "batch steps"]:
    """The value of the state before each step in which something appeared, 0 elsewhere."""
    states = max(len(rollout), TOKENS_AT_ONCE // rollout.x0.shape[1])
    at_once = max(states // rollout.steps, 1)
    found = []
    for start in range(0, len(rollout), at_once):
        part = rollout[start : start + at_once]
        views = reading(part, policy.process, Chance.of(0, len(part)))
        value = read_with_value(policy, views, reading.read).value
        assert value is not None and views.step is not None
        values = torch.zeros(len(part), rollout.steps, dtype=value.dtype, device=value.device)
        found.append(values.scatter_add(1, views.step, value))
    return torch.cat(found)
