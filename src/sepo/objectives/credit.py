"""Credit: what the rewards of a collection say about its sequences, and about the states on their paths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.record import Record
from sepo.typing import Float, Int, PerSequence


@dataclass(frozen=True, eq=False)
class Credit(Record):
    """advantage: one per sequence, or one per step of its path, which `at` turns into one per view.

    reward: the weighted sum of rewards, NaN where none applies; log_ratio: log(p_old / p_ref) of the path in nats, 0
    without a reference; value, target: what a critic said of the states, and what it should learn.
    """

    advantage: Float[Tensor, "batch _"]
    reward: PerSequence
    log_ratio: PerSequence
    value: Float[Tensor, "batch _"] | None = None
    target: Float[Tensor, "batch _"] | None = None

    @staticmethod
    def of(advantage: PerSequence, reward: PerSequence | None = None, log_ratio: PerSequence | None = None) -> Credit:
        """One advantage per sequence."""
        reward = advantage if reward is None else reward
        return Credit(advantage.unsqueeze(1), reward, torch.zeros_like(reward) if log_ratio is None else log_ratio)

    def at(self, step: Int[Tensor, "batch view"] | None) -> Credit:
        """With the numbers of steps taken at the steps of the views; views that are no states take the first step's."""

        def chosen(values: Tensor | None) -> Tensor | None:
            if values is None or values.shape[1] == 1:
                return values
            return values[:, :1] if step is None else values.gather(1, step)

        advantage = chosen(self.advantage)
        assert advantage is not None
        return Credit(advantage, self.reward, self.log_ratio, chosen(self.value), chosen(self.target))

    @property
    def per_site(self) -> Float[Tensor, "batch _ 1"]:
        """The advantage, to be multiplied with [batch view length]."""
        return self.advantage.unsqueeze(-1)

    @property
    def sequence_advantage(self) -> PerSequence:
        """That of the whole sequence: of its first step, or of its first view where every state is one."""
        return self.advantage[:, 0]
