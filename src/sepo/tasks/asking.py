"""Oracles asked about many sequences, in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.record import Record
from sepo.typing import PerSequence, Tokens

AT_ONCE = 256
"""Sequences that an oracle is asked about at once: so many may take a command its timeout."""


@dataclass(frozen=True, eq=False)
class Answers(Record):
    """What the oracles say of each sequence. doubt: standard deviation between the members of the reward's ensemble,
    None where it is none; other: of the second assay, None without one.
    """

    reward: PerSequence
    judge: PerSequence
    doubt: PerSequence | None = None
    other: PerSequence | None = None


def asked(oracle: Callable[[Tokens], Tensor], tokens: Tokens, told: Callable[[int], None] | None = None) -> Tensor:
    """What it says of sequences, in batches; told: is called with how many are done."""
    answers = []
    for part in tokens.split(AT_ONCE):
        answers.append(oracle(part))
        if told is not None:
            told(sum(map(len, answers)))
    return torch.cat(answers)
