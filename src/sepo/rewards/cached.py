"""A cache in front of an expensive reward: what was judged once is not judged again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sepo.rewards.calls import Reward, is_async
from sepo.rewards.named import NamedReward, reward_name
from sepo.rewards.request import RESERVED, accepted
from sepo.rewards.values import read_values


@dataclass(frozen=True, eq=False)
class Cached(NamedReward):
    """Hands `reward` only the completions that it has not seen with the same prompt and columns, each once.

    For rewards that always give the same value and judge each completion by itself: not by the others of the batch, nor
    by `trainer_state`. They get no `log_extra`. What is remembered lives as long as this object; `size` entries at
    most, the oldest go first.
    """

    reward: Reward
    size: int = 1_000_000
    known: dict[Any, float | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if is_async(self.reward):
            raise ValueError(f"The reward {self.name!r} is async: cache what it awaits, inside of it.")
        if self.size < 1:
            raise ValueError(f"size={self.size}: a cache has room for at least 1 completion.")

    @property
    def name(self) -> str:
        return reward_name(self.reward)

    def __call__(self, completions: Sequence[Any], **keywords: Any) -> list[float | None]:
        lists = {name: values for name, values in keywords.items() if name not in RESERVED[3:]} | {
            "completions": completions
        }
        others = {name: value for name, value in keywords.items() if name in ("trainer_state", "log_metric")}
        asked = accepted(self.reward, lists | others, self.name)
        compared = [values for name, values in lists.items() if name in asked]
        keys = [tuple(map(_key, row)) for row in zip(*compared, strict=True)]
        fresh = {key: index for index, key in reversed(list(enumerate(keys))) if key not in self.known}
        found = {key: self.known[key] for key in keys if key in self.known}
        if fresh:
            rows = sorted(fresh.values())
            part = {name: [values[row] for row in rows] if name in lists else values for name, values in asked.items()}
            judged = [completions[row] for row in rows]
            values, _ = read_values(self.reward(**part), self.name, judged)
            found |= zip((keys[row] for row in rows), values, strict=True)
            self._remember({keys[row]: found[keys[row]] for row in rows})
        return [found[key] for key in keys]

    def _remember(self, values: Mapping[Any, float | None]) -> None:
        self.known.update(values)
        for key in list(self.known)[: max(0, len(self.known) - self.size)]:
            del self.known[key]


def _key(value: Any) -> Any:
    """Something hashable that is equal where the value is."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return tuple((name, _key(entry)) for name, entry in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(map(_key, value))
    return value
