"""The digits: splits that keep reward and judges apart, a reward that knows the digit, metrics that see a collapse."""

from __future__ import annotations

import builtins
import importlib
from typing import Any

import numpy as np
import pytest

from sepo.tasks.digits import Digits, load, split


@pytest.fixture(scope="module")
def task() -> Digits:
    return Digits(trees=40)


def test_grey_levels_cover_the_range_and_nothing_else(task: Digits):
    assert task.data.images.shape == (1797, 64)
    assert set(np.unique(task.data.images)) == set(range(8))
    assert set(np.unique(load(2).images)) == {0, 1}
    assert load(17).images.max() == 16


def test_the_halves_are_disjoint_complete_and_have_all_digits_alike(task: Digits):
    first, second = task.halves
    together = np.concatenate([first.images, second.images])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(task.data.images, axis=0))
    counts = np.abs(np.bincount(first.labels) - np.bincount(second.labels))
    assert counts.max() <= 1


def test_a_tenth_is_held_out_of_pretraining(task: Digits):
    corpus, heldout = task.corpus(), task.heldout()
    assert len(corpus) + len(heldout) == 1797
    assert len(heldout) == pytest.approx(180, abs=5)
    assert not {tuple(row["tokens"]) for row in corpus} & {tuple(row["tokens"]) for row in heldout}


def test_splits_follow_from_the_seed(task: Digits):
    again, other = split(task.data, 0.5, 0)[0], split(task.data, 0.5, 1)[0]
    np.testing.assert_array_equal(task.halves[0].images, again.images)
    assert (again.images != other.images[: len(again.images)]).any()


def test_the_reward_knows_unseen_threes_from_other_digits(task: Digits):
    unseen = task.halves[1]
    threes, eights = unseen.of(3), unseen.of(8)
    high = task.reward([None] * len(threes), list(threes), [])
    low = task.reward([None] * len(eights), list(eights), [])
    assert np.mean(high) > 0.6
    assert np.mean(low) < 0.15
    assert all(isinstance(value, float) for value in high)


def test_the_judges_know_threes_of_the_half_that_they_did_not_see(task: Digits):
    found = task.metrics([], list(task.halves[0].of(3)))
    assert found["judge_agreement"] > 0.9
    assert task.metrics([], list(task.halves[0].of(5)))["judge_agreement"] < 0.1
    assert {name for name in found if name.startswith("judge_agreement/")} == {
        f"judge_agreement/{name}" for name in task.judges
    }


def test_real_threes_are_as_diverse_as_real_threes_and_one_prototype_is_not(task: Digits):
    threes = task.data.of(3)
    assert task.metrics([], list(threes))["diversity_ratio"] == pytest.approx(1.0)
    collapsed = task.metrics([], [threes[0]] * 10)
    assert collapsed["diversity_ratio"] == 0.0
    assert collapsed["distinct_fraction"] == 0.1


def test_copies_of_pretraining_images_are_not_novel(task: Digits):
    copies = task.parts[0].images[:20]
    found = task.metrics([], list(copies))
    assert found["novelty"] == 0.0
    assert found["nearest_distance"] == 0.0
    assert task.metrics([], list(task.parts[1].images))["novelty"] == 1.0


def test_another_digit_can_be_asked_for(task: Digits):
    sevens = task.halves[1].of(7)
    other = Digits(digit=7, trees=40)
    assert np.mean(other.reward([], list(sevens), [])) > 0.6
    assert other.metrics([], list(sevens))["judge_agreement"] > 0.95


def test_pictures_show_masks(task: Digits):
    tokens = np.full((3, 2, 64), task.mask)
    picture = task.draw([None] * 3, tokens)
    assert picture.tokens.shape == (3, 2, 8, 8)
    assert picture.mask_token == 8


@pytest.mark.parametrize(
    ("options", "name"), [({"digit": 10}, "digit=10"), ({"levels": 1}, "levels=1"), ({"trees": 0}, "trees=0")]
)
def test_impossible_options_are_refused_by_name(options: dict[str, int], name: str):
    with pytest.raises(ValueError, match=name):
        Digits(**options)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    def refuse(name: str, package: str | None = None) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match="extra `demo`"):
        Digits().corpus()
