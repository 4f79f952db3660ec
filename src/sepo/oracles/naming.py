"""Oracles by name, as options have them: a folder, a checkpoint, a function, or the line of a command."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import torch

from sepo.oracles.command import FromCommand
from sepo.oracles.lightning import load_lightning
from sepo.oracles.oracle import FromFunction, FromSoftFunction, Oracle, SoftFunction
from sepo.oracles.saved import load_oracle, members_in
from sepo.rewards.importing import named, source_of
from sepo.rewards.named import reward_name

LETTERS = "ACGT"
"""Of every checkpoint of gReLU."""
FORMS = (
    "package.module:function or file.py:function, which gets a list of sequences as text and returns a number for "
    "each; a command line, which reads FASTA from standard input or a file given as {fasta} and prints one number per "
    "line; a .ckpt of gReLU, with :COLUMN; or a folder of `sepo design`, such as runs/design/oracles/reward"
)


def oracle_named(
    name: str,
    letters: str,
    timeout: float | int | None = 600,
    doubt: float = 0.0,
    device: torch.device | str | None = None,
) -> Oracle:
    """letters: of the tokens; timeout: seconds, of a command; doubt: of a folder's ensemble; device: of a folder's
    networks or a checkpoint's, None for the CPU.

    Raises:
        ValueError: the name is of none of the forms, or leads to nothing.
    """
    if members_in(name):
        return load_oracle(name, doubt, device)
    checkpoint = checkpoint_named(name)
    if checkpoint is not None:
        if letters != LETTERS:
            raise ValueError(f"{name!r} reads the letters {LETTERS}, but the sequences are of {letters}.")
        return load_lightning(*checkpoint, device)
    if names_function(name):
        return _function(name, letters)
    if Path(name).is_dir():
        raise ValueError(f"{name!r} is a folder without oracles (member_0, ...): name one that holds them, or {FORMS}.")
    first = name.split()[0] if name.split() else ""
    if first and (shutil.which(first) or os.access(first, os.X_OK) or len(name.split()) > 1):
        return FromCommand.parsed(name, letters, timeout)
    raise ValueError(f"{name!r} names no oracle: give {FORMS}.")


def names_function(name: str) -> bool:
    """Whether the name has the form of package.module:function or file.py:function, a folder or checkpoint aside."""
    home, _, behind = name.rpartition(":")
    return bool(home) and behind.isidentifier() and (home.endswith(".py") or not any(map(str.isspace, name)))


def names_command(name: str) -> bool:
    """Whether the name is the line of a command: it has no other form."""
    return not (names_function(name) or Path(name).is_dir() or checkpoint_named(name) is not None)


def checkpoint_named(name: str) -> tuple[str, int] | None:
    """The path and the column of a .ckpt; None: it is something else, such as a command that ends in one."""
    home, _, behind = name.rpartition(":")
    path, column = (home, int(behind)) if home.endswith(".ckpt") and behind.isdigit() else (name, 0)
    spaced = any(map(str.isspace, path)) and not Path(path).is_file()
    return (path, column) if path.endswith(".ckpt") and not spaced else None


def require_apart(reward: str | None, judge: str | None, fitted: Path | str | None) -> None:
    """reward, judge: names of oracles from outside, None for those in the folder `fitted`.

    Raises:
        ValueError: what is rewarded would judge.
    """
    given = {"reward": reward, "judge": judge}
    names = {role: name or (fitted and str(Path(fitted) / role)) for role, name in given.items()}
    if not all(names.values()) or not any(given.values()) or not same_oracle(*map(str, names.values())):
        return
    told = [
        f"{role}_oracle={names[role]!r}" if name else f"the {role}'s oracle, which is fitted in {names[role]!r},"
        for role, name in given.items()
    ]
    raise ValueError(
        f"{' and '.join(told)} are the same: what is rewarded cannot judge. Name another, or leave out what you named: "
        "an oracle is then fitted to the table."
    )


def same_oracle(first: str, second: str) -> bool:
    """Whether two names lead to one oracle, however its path is written; copies of a file are not compared."""
    return _leads_to(first) == _leads_to(second)


def _leads_to(name: str) -> tuple[str, ...]:
    """A name with its paths in full, a module as its file, the column as a number."""
    home, _, behind = name.rpartition(":")
    checkpoint = checkpoint_named(name)
    if checkpoint is not None:
        return _full(checkpoint[0]), str(checkpoint[1])
    if names_function(name) and not Path(name).is_dir():
        source = source_of(name)
        return (home if source is None else _full(str(source))), behind
    if Path(name).is_dir():
        return (_full(name),)
    try:
        words = shlex.split(name)
    except ValueError:
        return (name,)
    program = [shutil.which(word) or word for word in words[:1]]
    return tuple(_full(word) if os.sep in word or Path(word).exists() else word for word in (*program, *words[1:]))


def _full(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _function(name: str, letters: str) -> FromFunction:
    found = named(name)
    if not callable(found):
        raise ValueError(f"oracle {name!r} is of type {type(found).__name__}; name a function of a list of sequences.")
    function: Any = found() if isinstance(found, type) else found
    kind = FromSoftFunction if isinstance(function, SoftFunction) else FromFunction
    return kind(function, letters, reward_name(function))
