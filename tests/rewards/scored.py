"""Four completions, what they are scored with, and the shortest way to do so."""

from __future__ import annotations

from sepo.rewards import Rewards

COMPLETIONS = ["a", "bb", "ccc", "dddd"]
PROMPTS = ["p", "q", "r", "s"]


def length(completions, **kwargs):
    return [len(text) for text in completions]


def score(reward_funcs, completions=COMPLETIONS, columns=None, state=None, **options):
    ids = [[index] * len(text) for index, text in enumerate(completions)]
    rewards = Rewards.of(reward_funcs, **options)
    return rewards(PROMPTS[: len(completions)], completions, ids, columns, state)
