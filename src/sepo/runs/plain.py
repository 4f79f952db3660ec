"""Plain data: what JSON and YAML can hold, and files that are replaced whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any, name: str = "value") -> Any:
    """The same value made of None, bool, int, float, str, list and dict only.

    NumPy scalars and arrays, tuples, sets, paths, enums and dataclasses are turned into these.

    Raises:
        ValueError: for anything else (a tensor, a function), naming it by `name`.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return plain(value.value, name)
    if isinstance(value, np.generic):
        return plain(value.item(), name)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), f"{name}.{field.name}") for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry, f"{name}.{key}") for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), name)
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        return [plain(entry, f"{name}[{position}]") for position, entry in enumerate(value)]
    raise ValueError(
        f"{name} is of type {type(value).__name__}, which a plain file cannot hold; "
        "hand a number, a string, a list or a dict (of a tensor: .item() or .tolist())."
    )


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON of plain data; NaN and the infinities become the strings "NaN", "Infinity", "-Infinity"."""
    return json.dumps(_spelled(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: _spelled(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_spelled(entry) for entry in value]
    return value


def numbers_back(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the strings that `to_json` writes for NaN and the infinities read as numbers again."""
    return {key: NOT_FINITE.get(value, value) if isinstance(value, str) else value for key, value in record.items()}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    A reader finds the old file or the new one, never half of one; a full disk or a kill leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes plain data as indented JSON, whole or not at all."""
    write_text(path, to_json(plain(value, path.name), indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: if the file is not JSON, naming it and the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it or delete it and run again.") from error
