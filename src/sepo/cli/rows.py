"""Rows of a dataset: from a csv, json, jsonl or parquet file, or from the hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def read_rows(name: str, split: str = "train") -> Sequence[Row]:
    """The rows of a file, by its ending, or of a hub dataset's split.

    Raises:
        ValueError: there is no such file or dataset, it cannot be read, or it has no rows.
    """
    path = Path(name).expanduser()
    if path.suffix in READERS:
        if not path.is_file():
            raise ValueError(f"dataset {name!r}: there is no such file.")
        try:
            rows = READERS[path.suffix](path)
        except (ValueError, KeyError, OSError, csv.Error) as error:
            raise ValueError(f"dataset {name!r} cannot be read: {error}") from error
    elif path.is_file():
        raise ValueError(f"dataset {name!r}: its ending is none of {', '.join(READERS)}.")
    else:
        rows = _from_hub(name, split)
    if len(rows) == 0:
        raise ValueError(f"dataset {name!r} has no rows: give at least one.")
    return rows


def _csv(path: Path) -> list[Row]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has more or fewer cells than the header has names")
    columns = {name: _typed([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return [{name: column[index] for name, column in columns.items()} for index in range(len(rows))]


def _typed(cells: list[str]) -> list[Any]:
    """A column of numbers as numbers; any other as text."""
    for kind in (int, float):
        try:
            return [kind(cell) for cell in cells]
        except ValueError:
            continue
    return list(cells)


def _json(path: Path) -> list[Row]:
    return _objects(json.loads(path.read_text(encoding="utf-8")))


def _jsonl(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return _objects([json.loads(line) for line in lines if line.strip()])


def _objects(found: Any) -> list[Row]:
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("its rows must be JSON objects")
    return found


def _parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("parquet needs pyarrow: pip install pyarrow (extra `demo`)") from error
    return parquet.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def _from_hub(name: str, split: str) -> Sequence[Row]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(
            f"dataset {name!r} is no file here; the hub needs the package datasets: pip install datasets (extra "
            "`datasets`)."
        ) from error
    try:
        return load_dataset(name, split=split)  # type: ignore[return-value]
    except Exception as error:  # of many kinds: no such dataset, no such split, no network
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"dataset {name!r} is no file here, and its split {split!r} could not be fetched from the hub: {first}"
        ) from error


def read_prompts(name: str) -> Sequence[Row]:
    """Prompts: a text file with one per line, or any dataset."""
    path = Path(name).expanduser()
    if path.suffix == ".txt" and path.is_file():
        lines: Iterable[str] = path.read_text(encoding="utf-8").splitlines()
        rows = [{"prompt": line} for line in lines if line.strip()]
        if not rows:
            raise ValueError(f"{name!r} holds no prompts: write one per line.")
        return rows
    return read_rows(name)
