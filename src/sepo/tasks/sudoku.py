"""Sudoku: fill the empty cells of a grid whose clues are clamped. Generated, conditional and verifiable.

4 x 4: all 288 grids, split into training and held-out ones. Larger: shuffles of one grid (symbols, rows within bands,
bands, columns within stacks, stacks, transposition), a large family but not all of sudoku. A puzzle may have several
solutions: the reward asks for a valid grid, not for the one that the puzzle was cut from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models.families import as_denoiser
from sepo.models.networks.positions import Grid
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.runs.boards import Boards
from sepo.tasks.base import Row, Task, stacked

Grids = Integer[np.ndarray, "_ cells"]


@dataclass(frozen=True)
class Sudoku(Task):
    """side: cells in a row (4, 9, 16); empty: cells to fill; trained, held: grids to learn and to hold out (of 4 x 4
    there are 288); puzzles: prompts per dataset; seed: of the split and the puzzles.
    """

    side: int = 4
    empty: int = 10
    trained: int = 200
    held: int = 88
    puzzles: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        if math.isqrt(self.side) ** 2 != self.side or self.side < 4:
            raise ValueError(f"side={self.side}: a sudoku has boxes of whole cells; choose 4, 9 or 16.")
        if not 1 <= self.empty <= self.cells:
            raise ValueError(
                f"empty={self.empty}: of a {self.side} x {self.side} grid 1 to {self.cells} cells can be empty."
            )
        for name in ("trained", "held", "puzzles"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: needs at least 1.")
        if self.side == 4 and self.trained + self.held > 288:
            asked = f"trained={self.trained} and held={self.held}"
            raise ValueError(f"{asked}: there are only 288 grids of 4 x 4; ask for fewer.")

    @property
    def cells(self) -> int:
        return self.side**2

    @property
    def mask(self) -> int:
        """Tokens 0 .. side-1 are the digits 1 .. side; the mask comes after them."""
        return self.side

    @cached_property
    def grids(self) -> tuple[Grids, Grids]:
        """Training and held-out grids, none in both."""
        count = self.trained + self.held
        rng = np.random.default_rng([self.seed, 0])
        found = rng.permutation(all_small_grids())[:count] if self.side == 4 else shuffled_grids(self.side, count, rng)
        return found[: self.trained], found[self.trained :]

    def corpus(self) -> list[Row]:
        return [{"tokens": grid} for grid in self.grids[0].tolist()]

    def heldout(self) -> list[Row]:
        return [{"tokens": grid} for grid in self.grids[1].tolist()]

    def prompts(self) -> list[Row]:
        return puzzles(self.grids[0], self.puzzles, self.empty, np.random.default_rng([self.seed, 1]))

    def test_prompts(self) -> list[Row]:
        return puzzles(self.grids[1], self.puzzles, self.empty, np.random.default_rng([self.seed, 2]))

    def denoiser(self) -> Denoiser:
        """A small transformer that sees row, column and box of each cell."""
        box = math.isqrt(self.side)
        small = self.side == 4
        config = TransformerConfig(
            vocab_size=self.side + 1,
            position=Grid(self.side, self.side, box, box),
            hidden_size=64 if small else 96,
            num_hidden_layers=3 if small else 4,
        )
        return as_denoiser(Transformer(config), Absorbing(self.side + 1, self.mask))

    def reward(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float]:
        """The share of rows, columns and boxes that hold every digit once."""
        return satisfied(stacked(completions, self.cells), self.side).mean(1).tolist()

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        """solved: share of puzzles with every unit right and every clue kept; clues_kept: share whose clues stand."""
        grids = stacked(completions, self.cells)
        clues = stacked(prompts, self.cells)
        kept = ((clues == -1) | (clues == grids)).all(1)
        right = satisfied(grids, self.side)
        return {
            "solved": float((right.all(1) & kept).mean()),
            "units_satisfied": float(right.mean()),
            "clues_kept": float(kept.mean()),
        }

    def draw(self, prompts: Sequence[Any], tokens: Integer[np.ndarray, "sample *frame length"]) -> Boards:
        """Digits as they are printed, 0 where a cell is still masked; clues bold."""
        shape = (*tokens.shape[:-1], self.side, self.side)
        frames = [1] * (tokens.ndim - 2)
        given = (stacked(prompts, self.cells) != -1).reshape(len(prompts), *frames, self.side, self.side)
        printed = np.where(tokens == self.mask, 0, tokens + 1).reshape(shape)
        return Boards(printed, np.broadcast_to(given, shape).copy())


def units(side: int) -> Integer[np.ndarray, "unit side"]:
    """The cells of each row, then each column, then each box."""
    box = math.isqrt(side)
    cells = np.arange(side * side).reshape(side, side)
    boxes = cells.reshape(box, box, box, box).swapaxes(1, 2).reshape(side, side)
    return np.concatenate([cells, cells.T, boxes])


def satisfied(grids: Grids, side: int) -> Bool[np.ndarray, "grid unit"]:
    """Whether each unit holds every digit once."""
    return (np.sort(grids[:, units(side)], axis=-1) == np.arange(side)).all(-1)


def all_small_grids() -> Integer[np.ndarray, "288 16"]:
    """Every valid grid of 4 x 4, in lexicographic order: row under row, while no column or box repeats a digit."""
    rows = list(itertools.permutations(range(4)))
    partial: list[tuple[int, ...]] = [()]
    for depth in range(4):
        above = [grid + row for grid in partial for row in rows]
        partial = [grid for grid in above if _consistent(grid, depth)]
    return np.array(partial)


def _consistent(grid: tuple[int, ...], depth: int) -> bool:
    *earlier, last = [grid[start : start + 4] for start in range(0, 4 * depth + 4, 4)]
    columns = all(last[column] != row[column] for row in earlier for column in range(4))
    halves = (slice(0, 2), slice(2, 4))
    return columns and (depth % 2 == 0 or all(set(last[half]).isdisjoint(earlier[-1][half]) for half in halves))


def shuffled_grids(side: int, count: int, rng: np.random.Generator) -> Grids:
    """`count` distinct grids, each the base grid (box r + r // box + c) mod side under random symmetries of sudoku."""
    box = math.isqrt(side)
    row, column = np.divmod(np.arange(side * side), side)
    base = ((box * row + row // box + column) % side).reshape(side, side)
    found: dict[bytes, np.ndarray] = {}
    while len(found) < count:
        grid = rng.permutation(side)[base[_lines(box, rng)][:, _lines(box, rng)]]
        grid = grid.T if rng.random() < 0.5 else grid
        found.setdefault(grid.tobytes(), grid.reshape(-1))
    return np.array(list(found.values()))


def _lines(box: int, rng: np.random.Generator) -> Integer[np.ndarray, " side"]:
    """An order of the rows (or columns) that keeps bands together."""
    return np.concatenate([band * box + rng.permutation(box) for band in rng.permutation(box)])


def puzzles(grids: Grids, count: int, empty: int, rng: np.random.Generator) -> list[Row]:
    """Rows of a dataset: `tokens` a whole grid, `free` marks its `empty` cells to fill, drawn at random."""
    chosen = grids[rng.integers(len(grids), size=count)]
    free = rng.random(chosen.shape).argsort(1) < empty
    return [{"tokens": tokens.tolist(), "free": cells.tolist()} for tokens, cells in zip(chosen, free, strict=True)]
