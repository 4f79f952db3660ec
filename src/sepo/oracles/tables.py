"""Tables as somebody keeps them, and which of their rows can be used. Row numbers are those of a spreadsheet."""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepo.oracles.alphabet import Alphabet
from sepo.oracles.findings import SHOWN, Finding, Numbering, clipped, finding, strange_letter

PARQUET, FASTA = (".parquet", ".pq"), (".fasta", ".fa", ".fna", ".faa", ".ffn")
OTHER_SEPARATORS = (
    (";", "semicolons", "write it with commas and decimal points, or as .tsv with tabs and decimal points"),
    ("\t", "tabs", "name it .tsv"),
    (",", "commas", "name it .csv"),
)


def pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ValueError("Tables of measured sequences need pandas: pip install 'sepo[design]'.") from error
    return pandas


def read_table(path: Path) -> tuple[Any, Numbering]:
    """A data frame, and how its rows are called: below a header the first is row 2; of FASTA it is record 1.

    Raises:
        ValueError: the file is not there, is none of csv, tsv, parquet and fasta, or has a row of more fields than its
            header.
    """
    pd = pandas()
    if not path.is_file():
        raise ValueError(f"{path} is not there: give a table of measured sequences (csv, tsv, parquet or fasta).")
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(PARQUET):
            table = pd.read_parquet(path)
            return table.reset_index(drop=table.index.names == [None]), Numbering(first=1)
        if name.endswith(FASTA):
            return pd.DataFrame(_fasta(path)), Numbering("record", 1)
        return _separated(path, "\t" if name.endswith((".tsv", ".txt")) else ",")
    except (ValueError, OSError, EOFError, zlib.error) as error:  # pandas' and pyarrow's are ValueErrors
        raise ValueError(f"{path} cannot be read as a table: {_plain(error)}") from error


def _separated(path: Path, separator: str) -> tuple[Any, Numbering]:
    pd = pandas()
    with _opened(path) as file:
        lines = itertools.dropwhile(lambda numbered: not numbered[1].strip(), enumerate(file))
        blank, header = next(lines, (0, ""))
    for other, name, remedy in OTHER_SEPARATORS:
        if separator not in header and other in header:
            raise ValueError(f"its fields seem to be separated by {name}; {remedy}.")
    how = {"sep": separator, "skiprows": blank, "skip_blank_lines": False}
    pd.read_csv(path, header=None, nrows=2, **how)  # with a header, a longer first row would be taken for one of labels
    table = pd.read_csv(path, low_memory=False, **how)
    return table[table.notna().any(axis=1)], Numbering(first=blank + 2)


def _plain(error: Exception) -> str:
    """What a reader complains of, in one line."""
    surplus = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if surplus is None:
        return f"{' '.join(str(error).split()).rstrip('.')}."
    expected, row, saw = surplus.groups()
    return (
        f"row {row} has {saw} fields and the header {expected}. Remove what is too many, such as a separator at its "
        "end, write numbers with a decimal point, and put text that holds separators in quotes."
    )


def numbers_in(table: Any, name: str, path: str, how: Numbering) -> Any:
    """A column as numbers, NaN where nothing stands.

    Raises:
        ValueError: something stands there that is no finite number.
    """
    pd = pandas()
    column = table[name]
    numbers = pd.to_numeric(column, errors="coerce")
    empty = column.isna() | (column.astype(str).str.strip() == "")
    wrong = (numbers.isna() & ~empty) | numbers.abs().eq(float("inf"))
    if wrong.any():
        values = [clipped(str(value)) for value in column[wrong]]
        said = finding("no number", list(column.index[wrong]), values, how)
        raise ValueError(
            f"{path}: the column {name!r} holds something that is no number: {said}. Give numbers, or leave the cell "
            "empty where nothing was measured."
        )
    return numbers.astype(float)


def names_in(table: Any, name: str) -> Any:
    """A column as text, "" where nothing stands. Whole numbers are written as such: a hole among them makes pandas read
    1 as 1.0.
    """
    column = table[name]
    if pandas().api.types.is_float_dtype(column) and column.isna().any() and column.dropna().mod(1).eq(0).all():
        column = column.astype("Int64")
    return column.astype(object).where(column.notna(), "").astype(str)


@dataclass(frozen=True, eq=False)
class Sorted:
    """kept: marks the rows that can be used; findings: the others, by reason."""

    kept: Any
    findings: tuple[Finding, ...]


def sort_rows(words: Any, name: str, numbers: Any, letters: Alphabet, how: Numbering) -> Sorted:
    """Those of known letters, with a number, of the commonest length; and the others. name: of the numbers' column."""
    known = words.map(letters.knows).astype(bool)
    measured = known & numbers.notna()
    lengths = words[measured].str.len()
    commonest = int(lengths.mode()[0]) if len(lengths) else 0
    kept = measured & (words.str.len() == commonest)
    lacking = [f"{name!r} is empty"] * min(int((known & ~measured).sum()), SHOWN)
    strange = [strange_letter(word, letters.letters) for word in words[~known][:SHOWN]]
    other = [f"{clipped(word)} ({len(word)} letters)" for word in words[measured & ~kept][:SHOWN]]
    found = (
        finding("letters outside the alphabet", list(words.index[~known]), strange, how),
        finding("not measured", list(words.index[known & ~measured]), lacking, how),
        finding(f"not of the commonest length, {commonest}", list(words.index[measured & ~kept]), other, how),
    )
    return Sorted(kept, tuple(each for each in found if each is not None))


def unmeasured(name: str, numbers: Any, how: Numbering) -> Iterator[Finding]:
    """Of the rows that are used, those without a number of the second assay."""
    yield from _empty(name, numbers.isna(), "without a number of the second assay, and not used for it", how)


def ungrouped(name: str, groups: Any, how: Numbering) -> Iterator[Finding]:
    """Of the rows that are used, those without a group, if others have one."""
    if (groups != "").any():
        yield from _empty(name, groups == "", "without a group, and not used for the oracles", how)


def _empty(name: str, empty: Any, problem: str, how: Numbering) -> Iterator[Finding]:
    places = list(empty.index[empty])
    told = finding(problem, places, [f"{name!r} is empty"] * min(len(places), SHOWN), how, left_out=False)
    if told is not None:
        yield told


def swallowing(words: Any, groups: Sequence[str], how: Numbering) -> Iterator[Finding]:
    """The rows of a cluster that holds more than half of the table."""
    largest, size = Counter(groups).most_common(1)[0]
    if 2 * size > len(groups):
        rows = [
            (place, clipped(word))
            for (place, word), group in zip(words.items(), groups, strict=True)
            if group == largest
        ]
        problem = "all in one cluster, more than half of the table, which can only be in one part: let more letters in "
        problem += "common make a cluster, or name a column of groups"
        told = finding(problem, [place for place, _ in rows], [said for _, said in rows], how, left_out=False)
        if told is not None:
            yield told


def repeated(words: Any, groups: Sequence[str], how: Numbering) -> Iterator[Finding]:
    """Sequences that stand there more than once, which are used as often: in one group, or so that they may part."""
    first: dict[str, tuple[int, str]] = {}
    together: list[tuple[int, str]] = []
    apart: list[tuple[int, str]] = []
    for (place, word), group in zip(words.items(), groups, strict=True):
        before, its_group = first.setdefault(word, (place, group))
        if before != place:
            said = f"as {how.unit} {how.of(int(before))}, {clipped(word)}"
            (together if group and group == its_group else apart).append((place, said))
    problems = {
        "repeats a sequence of its group": together,
        "repeats a sequence outside its group, so that an oracle may be tested on what it has seen": apart,
    }
    for problem, rows in problems.items():
        told = finding(problem, [place for place, _ in rows], [said for _, said in rows], how, left_out=False)
        if told is not None:
            yield told


def _opened(path: Path) -> Any:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig")


def _fasta(path: Path) -> Iterator[dict[str, str]]:
    """One row per record: its sequence, and what the header says as name=value."""
    with _opened(path) as file:
        records = ("\n" + file.read()).split("\n>")[1:]
    for record in records:
        header, _, sequence = record.partition("\n")
        said = dict(word.split("=", 1) for word in header.split() if "=" in word)
        yield {"id": header.split()[0] if header.split() else "", **said, "sequence": "".join(sequence.split())}
