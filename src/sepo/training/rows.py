"""Rows of a dataset: what is drawn by index, epoch after epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

Row = Mapping[str, Any]


@runtime_checkable
class Rows(Protocol):
    """A list of dictionaries, a `datasets.Dataset`, or anything else with a length whose rows have numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def number_of(dataset: Any) -> int:
    """How many rows there are.

    Raises:
        ValueError: the dataset does not know, because it is a stream.
    """
    try:
        return len(dataset)
    except TypeError as error:
        raise ValueError(
            f"The dataset is a {type(dataset).__name__} and has no length: rows are drawn by index, epoch after epoch. "
            "Take a finite part of it, such as list(dataset.take(10_000)) of a streamed one."
        ) from error


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """What rewards get beside prompts and completions: the other columns, one entry per row.

    Raises:
        ValueError: a row lacks a column that another one has.
    """
    known = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in known if name not in ("prompt", "completion")]
    for row in rows:
        lacking = [name for name in names if name not in row]
        if lacking:
            raise ValueError(
                f"A row of the dataset has no {lacking[0]!r}, which others have; it has {sorted(row)}. Give all rows "
                "the same columns, with None where there is nothing."
            )
    return {name: [row[name] for row in rows] for name in names}
