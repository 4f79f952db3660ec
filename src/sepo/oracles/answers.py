"""What an oracle from outside said, read as one finite number per sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sepo.rewards.messages import shortened
from sepo.rewards.values import as_number
from sepo.typing import Float


def read_answers(said: Sequence[Any], expected: int, who: str, from_text: bool = False) -> Float[Tensor, " batch"]:
    """said: numbers; from_text: lines that a program wrote.

    Raises:
        ValueError: another count, or something that is no finite number.
    """
    if len(said) != expected:
        raise ValueError(
            f"{who} gave {len(said)} numbers for {expected} sequences: it must give one for each, in their order."
        )
    numbers = [_from_text(each) if from_text else as_number(each) for each in said]
    for place, number in enumerate(numbers):
        if number is None or not math.isfinite(number):
            raise ValueError(
                f"{who} gave {shortened(said[place])} for sequence {place + 1} of {expected}: it must give a finite "
                "number for every sequence; say what such a sequence is worth."
            )
    return torch.tensor(numbers, dtype=torch.float32)


def words_of(tokens: Tensor, letters: str) -> list[str]:
    """Sequences of tokens [batch length] as text."""
    return ["".join(letters[token] for token in row) for row in tokens.tolist()]


def _from_text(line: str) -> float | None:
    try:
        return float(line)
    except ValueError:
        return None
