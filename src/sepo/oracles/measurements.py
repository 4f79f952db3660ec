"""A table of measured sequences, as somebody keeps it: CSV, TSV, parquet, or FASTA with numbers in the headers."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepo.oracles.alphabet import Alphabet, alphabet_named
from sepo.typing import Float, Tokens


@dataclass(frozen=True, eq=False)
class Measurements:
    """activity: one number per sequence; second: of another assay, None without one; groups: chromosome, cluster or
    family of each, "" if unknown; dropped: rows that were left out, by reason.
    """

    alphabet: Alphabet
    tokens: Tokens
    activity: Float[Tensor, " sequences"]
    second: Float[Tensor, " sequences"] | None
    groups: tuple[str, ...]
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        return self.tokens.shape[1]

    def chosen(self, rows: Tensor) -> Measurements:
        """Those at these places."""
        second = None if self.second is None else self.second[rows]
        groups = tuple(self.groups[row] for row in rows.tolist())
        return Measurements(self.alphabet, self.tokens[rows], self.activity[rows], second, groups, self.dropped)


@cache
def read_measurements(
    path: str,
    alphabet: str = "dna",
    sequence: str = "sequence",
    activity: str = "activity",
    second: str | None = None,
    group: str | None = None,
) -> Measurements:
    """The rows of the commonest length whose letters are known and that were measured.

    The other arguments are names of columns. In FASTA they are words `name=value` of the header.

    Raises:
        ValueError: the file or a column is not there, a number is none, or nothing is left.
    """
    pd = _pandas()
    table: Any = _table(Path(path))
    wanted = [name for name in (sequence, activity, second, group) if name is not None]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}, but {', '.join(map(str, table))}: say which is meant.")
    letters = alphabet_named(alphabet)
    words = table[sequence].fillna("").astype(str).str.upper()
    numbers: Any = pd.DataFrame({name: _numbers(table, name, path) for name in (activity, second) if name is not None})
    known, measured = words.map(letters.knows), numbers.notna().all(axis=1)
    lengths = words[known & measured].str.len()
    if lengths.empty:
        raise ValueError(f"{path}: no row has both a sequence of {letters.letters} and a number under {activity!r}.")
    right = words.str.len() == lengths.mode()[0]
    kept = known & measured & right
    dropped = {
        "letters outside the alphabet": int((~known).sum()),
        "not measured": int((known & ~measured).sum()),
        f"not of the commonest length, {lengths.mode()[0]}": int((known & measured & ~right).sum()),
    }
    groups = table[group].fillna("").astype(str)[kept] if group is not None else [""] * int(kept.sum())
    return Measurements(
        letters,
        letters.encode(list(words[kept])),
        torch.tensor(numbers[activity][kept].to_numpy(), dtype=torch.float32),
        None if second is None else torch.tensor(numbers[second][kept].to_numpy(), dtype=torch.float32),
        tuple(groups),
        {reason: count for reason, count in dropped.items() if count},
    )


def write_fasta(path: Path, names: Sequence[str], sequences: Sequence[str], width: int = 80) -> None:
    """names: the headers, without `>`."""
    with open(path, "w", encoding="utf-8") as file:
        for name, sequence in zip(names, sequences, strict=True):
            file.write(f">{name}\n")
            file.writelines(f"{sequence[start : start + width]}\n" for start in range(0, len(sequence), width))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ValueError("Tables of measured sequences need pandas: pip install 'sepo[design]'.") from error
    return pandas


def _table(path: Path) -> Any:
    pd = _pandas()
    if not path.is_file():
        raise ValueError(f"{path} is not there: give a table of measured sequences (csv, tsv, parquet or fasta).")
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return pd.read_parquet(path)
    if name.endswith((".fasta", ".fa")):
        return pd.DataFrame(_fasta(path))
    return pd.read_csv(path, sep="\t" if name.endswith((".tsv", ".txt")) else ",", low_memory=False)


def _fasta(path: Path) -> Iterator[dict[str, str]]:
    """One row per record: its sequence, and what the header says as name=value."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        records = file.read().split(">")[1:]
    for record in records:
        header, _, sequence = record.partition("\n")
        said = dict(word.split("=", 1) for word in header.split() if "=" in word)
        yield {"id": header.split()[0] if header.split() else "", **said, "sequence": "".join(sequence.split())}


def _numbers(table: Any, name: str, path: str) -> Any:
    try:
        return _pandas().to_numeric(table[name])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: the column {name!r} holds something that is no number ({error}).") from error
