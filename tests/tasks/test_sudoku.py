"""Sudoku: the grids, the puzzles, the reward and what the metrics say about right, wrong and cheating answers."""

from __future__ import annotations

import numpy as np
import pytest

from sepo.tasks.sudoku import Sudoku, all_small_grids, satisfied, shuffled_grids, units

SOLVED = np.array([0, 1, 2, 3, 2, 3, 0, 1, 1, 0, 3, 2, 3, 2, 1, 0])


def test_there_are_288_grids_of_4_x_4_and_all_are_valid():
    grids = all_small_grids()
    assert len({grid.tobytes() for grid in grids}) == 288
    assert satisfied(grids, 4).all()


def test_every_cell_is_in_one_row_one_column_and_one_box():
    found = units(9)
    assert found.shape == (27, 9)
    assert (np.bincount(found.reshape(-1)) == 3).all()
    assert sorted(found[18]) == [0, 1, 2, 9, 10, 11, 18, 19, 20]


@pytest.mark.parametrize("side", [9, 16])
def test_shuffled_grids_are_valid_distinct_and_varied(side: int):
    grids = shuffled_grids(side, 200, np.random.default_rng(0))
    assert satisfied(grids, side).all()
    assert len({grid.tobytes() for grid in grids}) == 200
    assert (np.mean(grids == grids[:1], axis=0) < 0.5).all()


def test_training_and_heldout_grids_are_disjoint_and_follow_from_the_seed():
    train, heldout = Sudoku().grids
    assert (len(train), len(heldout)) == (200, 88)
    assert [row["tokens"] for row in Sudoku().corpus()] == train.tolist()
    assert [row["tokens"] for row in Sudoku().heldout()] == heldout.tolist()
    assert not {grid.tobytes() for grid in train} & {grid.tobytes() for grid in heldout}
    np.testing.assert_array_equal(train, Sudoku().grids[0])
    assert (train != Sudoku(seed=1).grids[0]).any()


def test_puzzles_have_the_asked_number_of_empty_cells_and_come_from_their_own_grids():
    task = Sudoku(empty=7, puzzles=50)
    train = {tuple(grid) for grid in task.grids[0].tolist()}
    for row in task.prompts():
        assert sum(row["free"]) == 7
        assert tuple(row["tokens"]) in train
    heldout = {tuple(grid) for grid in task.grids[1].tolist()}
    assert {tuple(row["tokens"]) for row in task.test_prompts()} <= heldout


def test_puzzles_follow_from_the_seed():
    assert Sudoku(puzzles=5).prompts() == Sudoku(puzzles=5).prompts()
    assert Sudoku(puzzles=5).prompts() != Sudoku(puzzles=5, seed=1).prompts()


def test_the_reward_is_the_share_of_satisfied_units():
    swapped = SOLVED.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    constant = np.zeros(16, dtype=int)
    rewards = Sudoku().reward([None] * 3, [SOLVED, swapped, constant], [[], [], []])
    assert rewards == pytest.approx([1.0, 10 / 12, 0.0])


def test_a_valid_grid_that_overwrites_a_clue_is_not_solved():
    prompt = np.full(16, -1)
    prompt[0] = SOLVED[0]
    relabelled = (SOLVED + 1) % 4
    found = Sudoku().metrics([prompt, prompt], [SOLVED, relabelled])
    assert found == {"solved": 0.5, "units_satisfied": 1.0, "clues_kept": 0.5}


def test_the_picture_has_printed_digits_bold_clues_and_empty_masks():
    prompt = np.full(16, -1)
    prompt[:2] = SOLVED[:2]
    half = SOLVED.copy()
    half[8:] = Sudoku().mask
    board = Sudoku().draw([prompt], np.stack([half, SOLVED])[None])
    assert board.tokens.shape == (1, 2, 4, 4)
    assert board.tokens[0, 0].reshape(-1).tolist() == [1, 2, 3, 4, 3, 4, 1, 2, *[0] * 8]
    assert board.givens.sum(axis=(2, 3)).tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"side": 6}, "side=6"),
        ({"empty": 17}, "empty=17"),
        ({"trained": 250}, "288 grids"),
        ({"puzzles": 0}, "puzzles=0"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, int], name: str):
    with pytest.raises(ValueError, match=name):
        Sudoku(**options)


def test_a_completion_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"sequence 1 is .* 16 tokens"):
        Sudoku().reward([None, None], [SOLVED, SOLVED[:9]], [[], []])
