"""A table of measured sequences, as somebody keeps it: CSV, TSV, parquet, or FASTA with numbers in the headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sepo.oracles.alphabet import Alphabet, alphabet_named
from sepo.oracles.clusters import clusters
from sepo.oracles.findings import Finding
from sepo.oracles.tables import (
    names_in,
    numbers_in,
    read_table,
    repeated,
    sort_rows,
    swallowing,
    ungrouped,
    unmeasured,
)
from sepo.typing import Float, Int, Tokens


@dataclass(frozen=True, eq=False)
class Measurements:
    """activity: one number per sequence; second: of another assay, NaN where nothing was measured, None without one;
    groups: chromosome, cluster or family of each, "" if unknown; rows: their numbers in the table, as a spreadsheet
    shows them; findings: what is odd in it.
    """

    alphabet: Alphabet
    tokens: Tokens
    activity: Float[Tensor, " sequences"]
    second: Float[Tensor, " sequences"] | None
    groups: tuple[str, ...]
    rows: Int[Tensor, " sequences"]
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        return self.tokens.shape[1]

    @property
    def dropped(self) -> dict[str, int]:
        """How many rows were left out, by reason."""
        return {each.problem: len(each.rows) for each in self.findings if each.left_out}

    def chosen(self, places: Tensor) -> Measurements:
        """Those at these places."""
        second = None if self.second is None else self.second[places]
        groups = tuple(self.groups[place] for place in places.tolist())
        return replace(
            self,
            tokens=self.tokens[places],
            activity=self.activity[places],
            second=second,
            groups=groups,
            rows=self.rows[places],
        )


def read_measurements(
    path: str,
    alphabet: str = "dna",
    sequence: str = "sequence",
    activity: str = "activity",
    second: str | None = None,
    group: str | None = None,
    cluster: int | None = None,
) -> Measurements:
    """The rows of the commonest length whose letters are known and whose activity was measured; what is odd is told by
    row.

    cluster: letters in common that make one group of sequences (`clusters`), in place of a column of groups. The other
    arguments are names of columns. In FASTA they are words `name=value` of the header. A file is read once as long as
    it does not change.

    Raises:
        ValueError: the file or a column is not there, a number is none, nothing is left, or `cluster` is too short or
            too long.
    """
    if group is not None and cluster is not None:
        raise ValueError(f"group={group!r} and cluster={cluster}: both make groups; leave one of them out.")
    file = Path(path)
    state = file.stat() if file.is_file() else None
    version = (str(file.resolve()), state and state.st_mtime_ns, state and state.st_size)
    return _read(path, version, alphabet, sequence, activity, second, group, cluster)


@cache
def _read(
    path: str,
    version: tuple,
    alphabet: str,
    sequence: str,
    activity: str,
    second: str | None,
    group: str | None,
    cluster: int | None,
) -> Measurements:
    """version: what tells the file from what it was, for the cache alone."""
    table, how = read_table(Path(path))
    wanted = [name for name in (sequence, activity, second, group) if name is not None]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}, but {', '.join(map(str, table))}: say which is meant.")
    letters = alphabet_named(alphabet)
    words = table[sequence].fillna("").astype(str).str.strip().str.upper()
    numbers = {name: numbers_in(table, name, path, how) for name in (activity, second) if name is not None}
    sorted_out = sort_rows(words, activity, numbers[activity], letters, how)
    if not sorted_out.kept.any():
        told = "; ".join(map(str, sorted_out.findings)) or "it is empty"
        raise ValueError(
            f"{path}: no row has both a sequence of {letters.letters} and a number under {activity!r}: {told}."
        )
    kept = sorted_out.kept
    tokens = letters.encode(list(words[kept]))
    odd = [] if second is None else [*unmeasured(second, numbers[second][kept], how)]
    groups = [""] * len(tokens)
    if group is not None:
        groups = list(names_in(table, group)[kept])
        odd += ungrouped(group, names_in(table, group)[kept], how)
    if cluster is not None:
        groups = clusters(tokens, letters.letters, cluster)
        odd += swallowing(words[kept], groups, how)
    odd += repeated(words[kept], groups, how)
    return Measurements(
        letters,
        tokens,
        torch.tensor(numbers[activity][kept].to_numpy(), dtype=torch.float32),
        None if second is None else torch.tensor(numbers[second][kept].to_numpy(), dtype=torch.float32),
        tuple(groups),
        torch.tensor([how.of(int(place)) for place in kept.index[kept]]),
        (*sorted_out.findings, *odd),
    )


def write_fasta(path: Path, names: Sequence[str], sequences: Sequence[str], width: int = 80) -> None:
    path.write_text(as_fasta(names, sequences, width), encoding="utf-8")


def as_fasta(names: Sequence[str], sequences: Sequence[str], width: int = 80) -> str:
    """names: the headers, without `>`."""
    lines = []
    for name, sequence in zip(names, sequences, strict=True):
        lines += [f">{name}", *(sequence[start : start + width] for start in range(0, len(sequence), width))]
    return "".join(f"{line}\n" for line in lines)
