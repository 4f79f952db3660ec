"""What a reward may return, and what each wrong return is told."""

from __future__ import annotations

import math
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from sepo.rewards import RewardCalls, RewardError, Rewards

COMPLETIONS = ["one", "two", "three"]
NO_LISTS = [0.5, None, "abc", b"abc", {"a": 1, "b": 2, "c": 3}, {1, 2, 3}, object()]
NO_NUMBERS = ["0.5", "good", [0.5], {}, 1j, np.complex64(1), np.str_("1"), torch.zeros(2), pd.NA, object()]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, 1e39, torch.tensor(torch.inf)]


def total(returned, **options):
    def reward(completions):
        return returned

    return Rewards.of(reward, calls=RewardCalls(**options))([None] * 3, COMPLETIONS)


@pytest.mark.parametrize(
    "returned",
    [
        [1, 0.5, -2.0],
        (1, 0.5, -2),
        np.array([1, 0.5, -2]),
        np.array([[1], [0.5], [-2]]),
        np.array([1, 0.5, -2], dtype=np.float16),
        np.array([1, 0.5, -2], dtype=object),
        torch.tensor([1, 0.5, -2]),
        torch.tensor([[1], [0.5], [-2]], requires_grad=True),
        torch.tensor([1, 0.5, -2], dtype=torch.bfloat16),
        pd.Series([1, 0.5, -2], index=[5, 6, 7]),
        [np.float32(1), np.int8(1) / 2, np.float64(-2)],
        [torch.tensor(1), torch.tensor([0.5]), np.array([[-2.0]])],
        [True, Fraction(1, 2), Decimal(-2)],
        [np.bool_(True), 0.5, np.int64(-2)],
        iter([1, 0.5, -2]),
        map(float, ["1", "0.5", "-2"]),
        {"a": 1, "b": 0.5, "c": -2}.values(),
    ],
    ids=lambda returned: type(returned).__name__,
)
def test_numbers_in_any_list_are_taken(returned):
    assert total(returned).total.tolist() == [1.0, 0.5, -2.0]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_truth_values_count_as_one_and_zero(kind):
    assert total(kind([True, False, True])).total.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
def test_none_means_not_applicable(kind):
    scores = total(kind([1.0, None, 2.0]))
    assert math.isnan(scores.total[1]) and scores.total[[0, 2]].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("count", "returned"), [(2, [1, 2]), (4, np.zeros(4)), (0, []), (1, torch.zeros(1))])
def test_a_wrong_length_names_both_lengths(count, returned):
    with pytest.raises(RewardError, match=f"'reward' returned {count} values for 3 completions") as caught:
        total(returned)
    assert caught.value.reward == "reward" and caught.value.index is None


@pytest.mark.parametrize("returned", NO_LISTS, ids=repr)
def test_what_is_not_a_list_names_the_value_and_its_type(returned):
    with pytest.raises(RewardError, match=rf"'reward' returned .*\({type(returned).__name__}\).*Return a list"):
        total(returned)


@pytest.mark.parametrize("returned", [np.zeros((3, 2)), torch.tensor(1.0), np.zeros((1, 3))])
def test_an_array_of_the_wrong_shape_names_it(returned):
    with pytest.raises(RewardError) as caught:
        total(returned)
    assert f"shape {tuple(returned.shape)}" in str(caught.value) and "[batch]" in str(caught.value)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_a_value_that_is_no_number_names_the_completion(value):
    told = rf"\({type(value).__name__}\) for completion 1: a reward is a number"
    with pytest.raises(RewardError, match=told) as caught:
        total([0.0, value, 1.0])
    assert caught.value.index == 1


@pytest.mark.parametrize("value", NOT_FINITE, ids=lambda value: repr(value)[:10])
def test_a_value_that_is_not_finite_names_the_completion_and_its_text(value):
    with pytest.raises(RewardError, match="for completion 2, 'three': a reward is a finite number") as caught:
        total([0.0, 1.0, value])
    assert caught.value.index == 2


def test_nan_in_a_tensor_is_not_taken_for_none():
    with pytest.raises(RewardError, match="nan for completion 0"):
        total(torch.tensor([torch.nan, 0, 0]))


def test_values_that_are_not_finite_become_none_where_asked_and_are_counted():
    scores = total([math.nan, 2.0, -math.inf], non_finite_as_none=True)
    assert scores.by_name() == {"reward": [None, 2.0, None]}
    assert scores.metrics["rewards/reward/non_finite"] == 2
    assert scores.metrics["rewards/reward/mean"] == 2.0


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(RewardError) as caught:
        total("x" * 10_000)
    assert len(str(caught.value)) < 400


def test_the_error_is_a_value_error_that_survives_pickling():
    error = pickle.loads(pickle.dumps(RewardError("message", "reward", 3)))
    assert isinstance(error, ValueError)
    assert (str(error), error.reward, error.index) == ("message", "reward", 3)
