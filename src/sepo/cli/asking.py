"""Asking an oracle, with a bar: it may be a program that takes its time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sepo.cli.console import progress
from sepo.tasks.asking import asked
from sepo.typing import PerSequence, Tokens


def ask(title: str, says: Callable[[Tokens], Tensor], tokens: Tokens) -> PerSequence:
    """What it says of sequences, in batches."""
    with progress(f"  {title}", len(tokens)) as told:
        return asked(says, tokens, lambda done: told(done, "")).cpu()
