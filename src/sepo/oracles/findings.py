"""What is odd in a table: which rows, by the numbers that a spreadsheet shows, and what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SHOWN = 5
"""Rows that are named one by one."""


@dataclass(frozen=True)
class Numbering:
    """How rows are called. unit: row or record; first: the number of the first one with data, 2 below a header."""

    unit: str = "row"
    first: int = 2

    def of(self, place: int) -> int:
        return place + self.first


@dataclass(frozen=True)
class Finding:
    """problem: what is odd; rows: their numbers; values: what stands in the first of them; left_out: they are not used.
    unit: row or record.
    """

    problem: str
    rows: tuple[int, ...]
    values: tuple[str, ...]
    left_out: bool = True
    unit: str = "row"

    def __str__(self) -> str:
        shown = zip(self.rows, self.values, strict=False)
        named = ", ".join(f"{self.unit} {row} {value}".rstrip() for row, value in shown)
        more = len(self.rows) - len(self.values)
        several = "" if len(self.rows) == 1 else "s"
        return f"{len(self.rows)} {self.unit}{several}: {self.problem}: {named}{f' and {more} more' if more else ''}"


def finding(
    problem: str, places: Sequence[int], values: Sequence[Any], how: Numbering, left_out: bool = True
) -> Finding | None:
    """Of the rows at these places of the table, counted from 0; None without any."""
    if len(places) == 0:
        return None
    shown = tuple(str(value) for value in values[:SHOWN])
    return Finding(problem, tuple(how.of(int(place)) for place in places), shown, left_out, how.unit)


def clipped(text: str, width: int = 16) -> str:
    """In quotes, its beginning."""
    return repr(text if len(text) <= width else f"{text[:width]}...")


def strange_letter(sequence: str, letters: str) -> str:
    """The sequence and the first letter that is none of `letters`."""
    if not sequence:
        return "(empty)"
    place, letter = next((place, each) for place, each in enumerate(sequence, 1) if each not in letters)
    return f"{clipped(sequence)} ({letter!r} at letter {place})"
