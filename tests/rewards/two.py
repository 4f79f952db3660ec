"""Two completions and how they are scored, with the options of a call."""

from __future__ import annotations

from sepo.rewards import RewardCalls, Rewards, Scores

COMPLETIONS = ["a", "bb"]


def score(reward_funcs, **options) -> Scores:
    return Rewards.of(reward_funcs, calls=RewardCalls(**options))([None] * 2, COMPLETIONS)
