"""Boards: grids of digits such as sudoku, drawn as small SVG.

Givens are bold, wrong digits red, masked cells in the accent colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Bool, Integer

from sepo.runs.pixels import require_grids

CELL = 20


@dataclass(frozen=True, eq=False)
class Boards:
    """Square grids of digits. `blank` marks an empty or masked cell; `wrong` defaults to the filled cells that clash.

    `box` is the (height, width) of the boxes; without it a grid of n x n with square n has boxes of sqrt(n) x sqrt(n),
    and any other has none.
    """

    tokens: Integer[np.ndarray, "*picture height width"]
    givens: Bool[np.ndarray, "*picture height width"]
    wrong: Bool[np.ndarray, "*picture height width"] | None = None
    blank: int = 0
    box: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        require_grids(self.tokens, "tokens")
        rows, columns = self.tokens.shape[-2:]
        if rows != columns:
            raise ValueError(f"a board of {rows} x {columns} cells is not square; hand tokens of (board, n, n).")
        for name, flags in (("givens", self.givens), ("wrong", self.wrong)):
            if flags is not None and (flags.dtype != bool or flags.shape != self.tokens.shape):
                raise ValueError(
                    f"{name} is {flags.dtype} of shape {flags.shape}; hand booleans of the tokens' {self.tokens.shape}."
                )
        if self.box is not None and (rows % self.box[0] or columns % self.box[1]):
            raise ValueError(f"boxes of {self.box[0]} x {self.box[1]} cells do not tile a board of {rows} x {columns}.")

    @property
    def box_size(self) -> tuple[int, int]:
        """Height and width of the boxes; the whole board where there are none."""
        if self.box is not None:
            return self.box[0], self.box[1]
        size = self.tokens.shape[-1]
        root = math.isqrt(size)
        return (root, root) if root * root == size else (size, size)

    @property
    def wrong_cells(self) -> np.ndarray:
        return clashes(self) & ~self.givens if self.wrong is None else self.wrong


def clashes(boards: Boards) -> Bool[np.ndarray, "*picture height width"]:
    """The cells whose digit occurs twice in their row, column or box (rows and columns only, without boxes)."""
    size = boards.tokens.shape[-1]
    high, wide = boards.box_size
    row, column = np.divmod(np.arange(size * size), size)
    units = [row, column]
    if (high, wide) != (size, size):
        units.append(row // high * (size // wide) + column // wide)
    peers = np.logical_or.reduce([unit[:, None] == unit for unit in units]) & ~np.eye(size * size, dtype=bool)
    flat = boards.tokens.reshape(-1, size * size)
    same = (flat[:, :, None] == flat[:, None, :]) & peers
    return (same.any(axis=-1) & (flat != boards.blank)).reshape(boards.tokens.shape)


def board_svg(boards: Boards, index: int) -> str:
    """One board, counted over all picture axes, as inline SVG; its colours come from the page's style sheet."""
    size = boards.tokens.shape[-1]
    tokens, givens, wrong = (
        array.reshape(-1, size, size)[index] for array in (boards.tokens, boards.givens, boards.wrong_cells)
    )
    cells, digits = [], []
    for row, column in np.ndindex(size, size):
        token = int(tokens[row, column])
        left, top = column * CELL, row * CELL
        kind = (
            "blank"
            if token == boards.blank
            else "given"
            if givens[row, column]
            else "wrong"
            if wrong[row, column]
            else ""
        )
        if kind:
            cells.append(f'<rect class="{kind}" x="{left}" y="{top}" width="{CELL}" height="{CELL}"/>')
        if kind != "blank":
            place = f'x="{left + CELL // 2}" y="{top + CELL // 2}"'
            digits.append(f'<text class="{kind or "filled"}" {place}>{escape(str(token))}</text>')
    width = size * CELL
    high, wide = boards.box_size
    lines = []
    for edge in range(1, size):
        at = edge * CELL
        lines.append(f'<path class="{"thick" if edge % high == 0 else "thin"}" d="M0 {at}H{width}"/>')
        lines.append(f'<path class="{"thick" if edge % wide == 0 else "thin"}" d="M{at} 0V{width}"/>')
    frame = f'<rect class="frame" width="{width}" height="{width}"/>'
    body = "".join([*cells, *sorted(lines, reverse=True), frame, *digits])
    return f'<svg class="board" viewBox="-1 -1 {width + 2} {width + 2}" role="img" aria-label="board">{body}</svg>'
