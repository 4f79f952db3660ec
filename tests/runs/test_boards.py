"""Boards: clashes found, givens and wrong digits drawn."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from sepo.runs import Boards, clashes
from sepo.runs.boards import board_svg

SOLVED = np.array([[[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]])
NONE = np.zeros((1, 4, 4), bool)


def test_a_solved_board_has_no_clash():
    assert not clashes(Boards(SOLVED, NONE)).any()


def test_blank_cells_never_clash():
    assert not clashes(Boards(np.zeros((1, 4, 4), int), NONE)).any()


@pytest.mark.parametrize(("other", "unit"), [((0, 3), "row"), ((3, 0), "column"), ((1, 1), "box")])
def test_a_digit_twice_in_a_row_a_column_or_a_box_clashes(other: tuple[int, int], unit: str):
    board = np.zeros((1, 4, 4), int)
    board[0, 0, 0] = board[(0, *other)] = 2
    found = clashes(Boards(board, NONE))
    assert sorted(map(tuple, np.argwhere(found[0]).tolist())) == sorted([(0, 0), other]), unit


def test_cells_that_share_no_unit_do_not_clash():
    board = np.zeros((1, 4, 4), int)
    board[0, 0, 0] = board[0, 2, 3] = 2
    assert not clashes(Boards(board, NONE)).any()


def test_clashes_agree_with_counting_digits_in_every_unit():
    rng = np.random.default_rng(0)
    boards = Boards(rng.integers(0, 7, (20, 6, 6)), np.zeros((20, 6, 6), bool), box=(2, 3))
    found = clashes(boards)
    for index, row, column in np.ndindex(20, 6, 6):
        board = boards.tokens[index]
        top, left = row // 2 * 2, column // 3 * 3
        units = (board[row], board[:, column], board[top : top + 2, left : left + 3])
        digit = board[row, column]
        assert found[index, row, column] == (digit != 0 and any((unit == digit).sum() > 1 for unit in units))


def test_a_latin_square_of_five_has_no_boxes():
    latin = (np.arange(5)[:, None] + np.arange(5))[None] % 5 + 1
    assert not clashes(Boards(latin, np.zeros((1, 5, 5), bool))).any()


def test_given_digits_are_not_called_wrong():
    board = SOLVED.copy()
    board[0, 0, 1] = 1
    givens = NONE.copy()
    givens[0, 0, 0] = True
    assert np.argwhere(Boards(board, givens).wrong_cells[0]).tolist() == [[0, 1], [2, 1]]


def test_a_drawing_shows_every_digit_once_in_its_kind():
    board = SOLVED.copy()
    board[0, 0, 1] = 1
    board[0, 3, 3] = 0
    givens = NONE.copy()
    givens[0, 0, 0] = True
    drawing = board_svg(Boards(board, givens), 0)
    digits = re.findall(r'<text class="(\w+)" [^>]*>(\d)</text>', drawing)
    assert len(digits) == 15
    assert digits[0] == ("given", "1")
    assert [digit for kind, digit in digits if kind == "wrong"] == ["1", "1"]
    assert drawing.count('<rect class="blank"') == 1


def test_boxes_are_parted_by_thick_lines():
    drawing = board_svg(Boards(np.zeros((1, 9, 9), int), np.zeros((1, 9, 9), bool)), 0)
    assert drawing.count('class="thick"') == 4
    assert drawing.count('class="thin"') == 12


def test_pictures_are_counted_over_all_axes():
    tokens = np.stack([np.full((2, 4, 4), digit) for digit in (1, 2, 3)])
    drawing = board_svg(Boards(tokens, np.ones(tokens.shape, bool)), 5)
    assert set(re.findall(r">(\d)</text>", drawing)) == {"3"}


@pytest.mark.usefixtures("as_in_use")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": np.zeros((1, 4, 5), int)}, "4 x 5 cells is not square"),
        ({"givens": np.zeros((1, 4, 4), int)}, "givens is int64"),
        ({"givens": np.zeros((2, 4, 4), bool)}, r"givens is bool of shape \(2, 4, 4\)"),
        ({"wrong": np.zeros((1, 3, 4), bool)}, "wrong is bool of shape"),
        ({"box": (3, 2)}, "boxes of 3 x 2 cells do not tile a board of 4 x 4"),
    ],
)
def test_boards_that_do_not_fit_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Boards(**({"tokens": SOLVED, "givens": NONE} | changes))
