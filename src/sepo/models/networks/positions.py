"""Where a token stands: what a transformer adds to its embeddings, or turns its queries and keys by.

`Learned`: a vector per index. `Rotary`: angles (RoFormer, arXiv 2104.09864). `Grid`: the sum of a vector per row, per
column and per box of a sudoku; without boxes, of row and column.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Learned:
    """A vector for each of `length` indices."""

    length: int

    def __post_init__(self) -> None:
        _positive("length", self.length)

    @property
    def lengths(self) -> range:
        return range(1, self.length + 1)

    @property
    def axes(self) -> tuple[int, ...]:
        return (self.length,)

    def indices(self, device: torch.device) -> tuple[Tensor, ...]:
        return (torch.arange(self.length, device=device),)


@dataclass(frozen=True)
class Rotary:
    """Angles in place of vectors, for any length."""

    base: float = 10_000.0

    def __post_init__(self) -> None:
        if not self.base > 1:
            raise ValueError(
                f"base={self.base}: the slowest angle is 1/base radians per site; give more than 1, such as 10000."
            )

    @property
    def lengths(self) -> range:
        return range(1, sys.maxsize)

    @property
    def axes(self) -> tuple[int, ...]:
        return ()

    def indices(self, device: torch.device) -> tuple[Tensor, ...]:
        return ()


@dataclass(frozen=True)
class Grid:
    """Vectors for the row and the column of a cell and, where box_height and box_width are given, for its box."""

    height: int
    width: int
    box_height: int | None = None
    box_width: int | None = None

    def __post_init__(self) -> None:
        _positive("height", self.height)
        _positive("width", self.width)
        if (self.box_height is None) != (self.box_width is None):
            raise ValueError(f"box_height={self.box_height}, box_width={self.box_width}: give both or neither.")
        if self.box_height and self.box_width and (self.height % self.box_height or self.width % self.box_width):
            raise ValueError(
                f"Boxes of {self.box_height} x {self.box_width} do not tile a grid of {self.height} x {self.width}; "
                "choose sizes that divide the grid's."
            )

    @property
    def lengths(self) -> range:
        return range(self.height * self.width, self.height * self.width + 1)

    @property
    def axes(self) -> tuple[int, ...]:
        if not self.box_height or not self.box_width:
            return (self.height, self.width)
        return (self.height, self.width, self.height // self.box_height * (self.width // self.box_width))

    def indices(self, device: torch.device) -> tuple[Tensor, ...]:
        cell = torch.arange(self.height * self.width, device=device)
        row, column = cell // self.width, cell % self.width
        if not self.box_height or not self.box_width:
            return (row, column)
        return (row, column, row // self.box_height * (self.width // self.box_width) + column // self.box_width)


Position = Learned | Rotary | Grid
POSITIONS: dict[str, type[Learned] | type[Rotary] | type[Grid]] = {"learned": Learned, "rotary": Rotary, "grid": Grid}


def to_json(position: Position) -> dict:
    """The object as plain data: its kind and its fields."""
    kind = next(name for name, option in POSITIONS.items() if type(position) is option)
    return {"kind": kind} | asdict(position)


def from_json(description: dict) -> Position:
    """The object that `to_json` described."""
    fields = dict(description)
    kind = fields.pop("kind", None)
    if kind not in POSITIONS:
        raise ValueError(f"position kind {kind!r}: the known kinds are {', '.join(POSITIONS)}.")
    try:
        return POSITIONS[kind](**fields)
    except TypeError as error:
        raise ValueError(
            f"position {description!r}: {error}; see {POSITIONS[kind].__name__} for its fields."
        ) from error


class PositionTable(nn.Module):
    """The vectors of a position: one table per axis, summed. Rotary positions have none and add nothing."""

    def __init__(self, position: Position, width: int) -> None:
        super().__init__()
        self.position = position
        self.axes = nn.ModuleList(nn.Embedding(size, width) for size in position.axes)

    def forward(self, embedded: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        """`embedded` with the vectors of its first `length` positions added."""
        length = embedded.shape[1]
        if length not in self.position.lengths:
            raise ValueError(
                f"A sequence of {length} tokens for {self.position}: it has places for {self.position.lengths[-1]}; "
                "cut or pad the sequence, or build the network with another position."
            )
        for table, index in zip(self.axes, self.position.indices(embedded.device), strict=True):
            embedded = embedded + table(index[:length])
        return embedded


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value}: give at least 1.")
