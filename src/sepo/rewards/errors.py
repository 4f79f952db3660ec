"""The error of a reward: it names the reward, the completion, the value, the rule and the remedy."""

from __future__ import annotations


class RewardError(ValueError):
    """A reward failed, or returned what is not a reward.

    Attributes:
        reward: the name under which the reward is logged; None if no single one is to blame.
        index: the position of the completion in the batch; None if the whole call is to blame.
    """

    def __init__(self, message: str, reward: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.reward = reward
        self.index = index
