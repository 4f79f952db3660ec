"""The name of a reward: what its metrics and its column of the completions table are called."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any


class NamedReward(ABC):
    """A reward that says what it is called. Functions need not: theirs is `__name__`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The middle of `rewards/{name}/mean`."""


def reward_name(reward: Callable[..., Any]) -> str:
    """The name of one reward: `name` of a NamedReward, `__name__` of a function or method, of a partial's function,
    else the class."""
    if isinstance(reward, NamedReward):
        return reward.name
    if isinstance(reward, functools.partial):
        return reward_name(reward.func)
    try:
        name = reward.__name__
    except AttributeError:
        name = type(reward).__name__
    return "lambda" if name == "<lambda>" else name


def reward_names(rewards: Sequence[Callable[..., Any]]) -> tuple[str, ...]:
    """One name each, in order; of several equal names the second gets the suffix _2, the third _3."""
    names: list[str] = []
    for wanted in map(reward_name, rewards):
        name, number = wanted, 1
        while name in names:
            number += 1
            name = f"{wanted}_{number}"
        names.append(name)
    return tuple(names)
