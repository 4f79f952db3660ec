"""What a command ends with: an answer, words that were not understood, or a mistake that is told in a few lines."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path


class Answered(Exception):
    """--help, --print_config and the like: the command was a question, and it has been answered."""


class UsageError(ValueError):
    """An option or a recipe that was not understood."""


def told(error: Exception) -> str | None:
    """What a user is told in place of a stack trace; None if the error is none that a user causes.

    An error in the user's own code comes with its file and line.
    """
    if isinstance(error, RuntimeError) and "out of memory" in str(error).lower():
        first = str(error).strip().splitlines()[0]
        return f"{first}\nA smaller per_device_train_batch_size with more gradient_accumulation_steps takes less."
    if isinstance(error, RuntimeError) and "to be installed" in str(error):  # transformers, of a missing integration
        return str(error)
    if not isinstance(error, (ValueError, OSError, ImportError, ArithmeticError)):
        return None
    if isinstance(error, ImportError) and error.name is not None:  # not a hint of ours what to install
        return None
    place = _own_code(error.__cause__)
    return str(error) if place is None else f"{error}\n  {place}"


def _own_code(cause: BaseException | None) -> str | None:
    """Where in the user's code the cause arose: in no installed package, and not in this one."""
    if cause is None:
        return None
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    others = [*installed, str(Path(__file__).parents[1])]
    for frame in reversed(traceback.extract_tb(cause.__traceback__)):
        if frame.filename[0] != "<" and not any(Path(frame.filename).is_relative_to(other) for other in others):
            return f"{frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"
    return None
