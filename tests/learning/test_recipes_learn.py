"""The shipped recipes reach what the README says of them (slow: they train)."""

from __future__ import annotations

import json

import pytest

from sepo.cli import main

pytestmark = pytest.mark.slow


def summary(folder) -> dict[str, float]:
    return json.loads((folder / "summary.json").read_text())


def test_sudoku_is_solved_more_often_after_fine_tuning_a_half_trained_model(tmp_path):
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    assert main(["pretrain", "sudoku", "--output_dir", str(base)]) == 0
    assert main(["finetune", "sudoku", "--model", str(base), "--output_dir", str(tuned), "--judged", "1024"]) == 0
    found = summary(tuned)
    assert 0.2 < found["solved_before"] < 0.6
    assert found["solved"] > found["solved_before"] + 0.1
    assert found["clues_kept"] == 1


def test_the_demo_draws_different_threes_that_unseen_judges_accept(tmp_path):
    assert main(["demo", "--output", str(tmp_path), "--seed", "3"]) == 0
    found = summary(tmp_path)
    assert found["reward_before"] < 0.2 and found["reward_after"] >= 0.9
    assert found["judge_agreement"] >= 0.95 and found["diversity_ratio"] >= 0.75
