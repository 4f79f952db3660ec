"""What a reward returned, read as one number or None per completion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, SupportsFloat

import numpy as np
import torch

from sepo.rewards.errors import RewardError
from sepo.rewards.messages import shortened

ONE_EACH = "it must return one number, or None where it does not apply, per completion, in their order"
LARGEST = torch.finfo(torch.float32).max


def read_values(
    returned: Any, reward: str, completions: Sequence[Any], non_finite_as_none: bool = False
) -> tuple[list[float | None], int]:
    """The rewards of a batch, and how many of them were not finite and became None.

    A list, tuple, numpy array, torch tensor (shape [batch] or [batch, 1]) or any other iterable but a text, mapping or
    set; its elements numbers: bool, int, float, numpy's and torch's scalars, whatever `float` takes and is not text.
    Trainers compute in float32, so a value beyond its range counts as infinite.

    Raises:
        RewardError: another type or length; NaN or an infinity, unless `non_finite_as_none`.
    """
    values = _listed(returned, reward)
    if len(values) != len(completions):
        raise RewardError(
            f"The reward {reward!r} returned {len(values)} values for {len(completions)} completions: {ONE_EACH}.",
            reward,
        )
    numbers: list[float | None] = []
    dropped = 0
    for index, value in enumerate(values):
        number = None if value is None else as_number(value)
        if number is None and value is not None:
            raise RewardError(_not_a_number(reward, index, value), reward, index)
        if number is not None and not abs(number) <= LARGEST:
            if not non_finite_as_none:
                raise RewardError(_not_finite(reward, index, value, completions[index]), reward, index)
            number = None
            dropped += 1
        numbers.append(number)
    return numbers, dropped


def _listed(returned: Any, reward: str) -> list[Any]:
    if isinstance(returned, (np.ndarray, torch.Tensor)):
        if returned.ndim == 2 and returned.shape[1] == 1:
            returned = returned[:, 0]
        if returned.ndim != 1:
            raise RewardError(
                f"The reward {reward!r} returned an array of shape {tuple(returned.shape)}: it must have the shape "
                "[batch], one value per completion. Reduce the other axes.",
                reward,
            )
        return returned.tolist()
    if isinstance(returned, (str, bytes, Mapping, Set)) or not isinstance(returned, Iterable):
        raise RewardError(
            f"The reward {reward!r} returned {shortened(returned)} ({type(returned).__name__}): {ONE_EACH}. "
            "Return a list, tuple, array or tensor.",
            reward,
        )
    return list(returned)


def as_number(value: Any) -> float | None:
    """The number that a value is, infinite if it is beyond float; None if it is not a number."""
    one_tensor = isinstance(value, torch.Tensor) and value.numel() == 1
    if one_tensor or (isinstance(value, (np.ndarray, np.generic)) and value.size == 1):
        value = value.item()
    if isinstance(value, (str, bytes)) or not isinstance(value, SupportsFloat):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def _not_a_number(reward: str, index: int, value: Any) -> str:
    return (
        f"The reward {reward!r} returned {shortened(value)} ({type(value).__name__}) for completion {index}: a "
        "reward is a number, or None where it does not apply. Convert it."
    )


def _not_finite(reward: str, index: int, value: Any, completion: Any) -> str:
    return (
        f"The reward {reward!r} returned {shortened(value)} for completion {index}, {shortened(completion)}: a "
        "reward is a finite number (in float32). Say what such a completion is worth, return None where the reward "
        "does not apply, or treat all of them so: RewardCalls(non_finite_as_none=True), non_finite_rewards='none' "
        "in the config."
    )
