"""Rewards that cannot be called are refused before any is, with the name of what is missing."""

from __future__ import annotations

import math

import pytest

from sepo.rewards import RewardError, Rewards
from tests.rewards.scored import COMPLETIONS, length, score


def test_a_missing_argument_names_it_and_what_there_is():
    def reward(completions, answer, **kwargs):
        return [0] * 4

    with pytest.raises(RewardError, match=r"'reward' needs the argument 'answer'.*completion_ids.*target") as caught:
        score(reward, columns={"target": [0] * 4})
    assert caught.value.reward == "reward"


def test_a_builtin_without_signature_is_handed_everything_and_named_when_it_fails():
    with pytest.raises(RewardError, match="The reward 'max' raised TypeError"):
        score(max)


def test_names_must_be_as_many_as_rewards_and_different():
    with pytest.raises(ValueError, match="2 rewards need as many different names"):
        Rewards((length, length), (1.0, 1.0), ("length", "length"))


def test_the_missing_argument_of_a_later_reward_is_found_before_any_is_called():
    called = []

    def first(completions):
        called.append(True)
        return [0] * 4

    def second(samples):
        return [0] * 4

    with pytest.raises(RewardError, match="'second' needs the argument 'samples'"):
        score([first, second])
    assert not called


@pytest.mark.parametrize("column", ["completions", "trainer_state", "log_extra"])
def test_a_column_named_like_an_argument_is_refused(column):
    with pytest.raises(ValueError, match=f"column '{column}'.*rename the column"):
        score(length, columns={column: [0] * 4})


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="'answer' has 3 entries and there are 4 completions"):
        score(length, columns={"answer": [0] * 3})
    with pytest.raises(ValueError, match="'prompts' has 1 entries"):
        Rewards.of(length)(["p"], COMPLETIONS)


def test_no_completions_are_refused():
    with pytest.raises(ValueError, match="no completions"):
        Rewards.of(length)([], [])


def test_wrong_lists_of_rewards_and_weights_are_refused():
    with pytest.raises(ValueError, match="There is no reward"):
        Rewards.of([])
    with pytest.raises(ValueError, match=r"Reward 1 is 5 \(int\): a reward is a function"):
        Rewards.of([length, 5])
    with pytest.raises(ValueError, match="2 weights for 1 rewards"):
        Rewards.of(length, weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="weights must be finite"):
        Rewards.of(length, weights=[math.nan])
    with pytest.raises(ValueError, match="at least one not 0"):
        Rewards.of([length, length], weights=[0.0, 0.0])
    with pytest.raises(ValueError, match="reward_processing_classes has 1 entries for 2 rewards"):
        Rewards.of([length, length], processing_classes=[None])
