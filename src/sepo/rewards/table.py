"""A measured table as a reward: the value of each sequence that was measured."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepo.rewards.messages import shortened, text_of

UNMEASURED = ("", "na", "nan", "none", "null")


@dataclass(frozen=True, eq=False)
class TableReward:
    """The value that the table has for a completion, `missing` if it has none (None: not applicable).

    table: from a text, or a tuple of token ids, to a number. alphabet: turns arrays into texts, alphabet[i] for token i
    ("ACGT").
    """

    table: Mapping[Any, float | int]
    missing: float | int | None = None
    alphabet: str | None = None

    def __post_init__(self) -> None:
        if not self.table:
            raise ValueError("The table is empty: a reward from it would apply to nothing.")

    @staticmethod
    def read(
        path: str | Path, sequence: str, value: str, missing: float | int | None = None, alphabet: str | None = None
    ) -> TableReward:
        """From the columns `sequence` and `value` of a .csv or .tsv file with a header, or one of them compressed
        (.gz).

        Rows whose value is empty or NaN were not measured and are left out.

        Raises:
            ValueError: no such column, a value that is not a number, a sequence with two values.
        """
        return TableReward(read_table(Path(path), sequence, value), missing, alphabet)

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float | int | None]:
        return [self.table.get(self._key(completion), self.missing) for completion in completions]

    def _key(self, completion: Any) -> str | tuple[int, ...]:
        if not isinstance(completion, np.ndarray):
            return text_of(completion)
        tokens = tuple(completion.tolist())
        if self.alphabet is None:
            return tokens
        if tokens and not 0 <= min(tokens) <= max(tokens) < len(self.alphabet):
            raise ValueError(
                f"The tokens {shortened(tokens)} go beyond the {len(self.alphabet)} letters of "
                f"alphabet={self.alphabet!r}."
            )
        return "".join(self.alphabet[token] for token in tokens)


def read_table(path: Path, sequence: str, value: str) -> dict[str, float]:
    """The two columns of a file as a dictionary."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    delimiters = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
    if not suffixes or suffixes[-1] not in delimiters:
        raise ValueError(f"{path}: a table is a .csv, .tsv or .txt (tabs) file, or one of them with .gz.")
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiters[suffixes[-1]])
    for column in (sequence, value):
        if column not in (rows.fieldnames or ()):
            raise ValueError(f"{path} has no column {column!r}; it has {', '.join(rows.fieldnames or ['none'])}.")
    table: dict[str, float] = {}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        number = _measured(row[value], where)
        if number is None:
            continue
        if table.setdefault(row[sequence], number) != number:
            raise ValueError(
                f"{where}: {row[sequence]!r} has the value {number} here and {table[row[sequence]]} before; keep one."
            )
    return table


def _text(path: Path) -> str:
    try:
        stored = path.read_bytes()
        return (gzip.decompress(stored) if path.suffix.lower() == ".gz" else stored).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"The table {path} cannot be read: {error}. It must be text in UTF-8.") from error


def _measured(cell: str | None, where: str) -> float | None:
    if cell is None or cell.strip().lower() in UNMEASURED:
        return None
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{where}: {cell!r} is not a finite number; mend it, or leave it empty if it was not measured."
        )
    return number
