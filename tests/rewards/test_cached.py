"""The cache in front of an expensive reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sepo.rewards import Cached, RewardError, Rewards


def counted(value=len):
    """A reward that writes down what it is asked, cached."""
    asked = []

    def dock(completions):
        asked.append(list(completions))
        return [value(completion) for completion in completions]

    return Cached(dock), asked


def test_what_was_judged_once_is_not_judged_again():
    reward, asked = counted()
    rewards = Rewards.of(reward)
    assert rewards([None] * 4, ["a", "bb", "a", "ccc"]).total.tolist() == [1, 2, 1, 3]
    assert rewards([None] * 3, ["bb", "dddd", "a"]).total.tolist() == [2, 4, 1]
    assert asked == [["a", "bb", "ccc"], ["dddd"]]
    assert rewards.names == ("dock",)


def test_nothing_new_asks_nothing():
    reward, asked = counted()
    assert reward(["a"]) == reward(["a", "a"])[:1] == [1.0]
    assert len(asked) == 1


def test_arrays_tensors_and_messages_are_recognised_by_their_contents():
    reward, asked = counted(value=lambda completion: 1.0)
    reward([np.array([1, 2]), np.array([1, 2]), np.array([2, 1]), np.array([1, 2], dtype=np.int8)])
    reward([torch.tensor([1, 2]), [{"role": "assistant", "content": "a"}], [{"content": "a", "role": "assistant"}]])
    assert [len(completions) for completions in asked] == [3, 1]


def test_a_reward_of_columns_is_asked_again_for_another_value():
    asked = []

    def equal(completions, answer, **kwargs):
        asked.append(list(zip(completions, answer, strict=True)))
        return [float(text == right) for text, right in zip(completions, answer, strict=True)]

    rewards = Rewards.of(Cached(equal))
    ids = [[1], [1], [1]]
    total = rewards(["p"] * 3, ["a", "a", "a"], ids, {"answer": ["a", "b", "a"]}).total
    assert total.tolist() == [1, 0, 1]
    assert asked == [[("a", "a"), ("a", "b")]]


def test_columns_that_the_reward_does_not_name_do_not_matter():
    reward, asked = counted()
    Rewards.of(reward)(["p", "q"], ["a", "a"], [[1], [2]], {"other": [1, 2]})
    assert asked == [["a"]]


def test_none_is_remembered_too():
    reward, asked = counted(value=lambda completion: None)
    assert reward(["a"]) == reward(["a"]) == [None]
    assert len(asked) == 1


def test_a_wrong_return_is_named_and_not_remembered():
    reward, asked = counted(value=lambda completion: float("nan") if len(asked) == 1 else 1.0)
    with pytest.raises(RewardError, match="'dock' returned nan for completion 0"):
        Rewards.of(reward)([None], ["a"])
    assert reward(["a"]) == [1.0]


def test_the_oldest_are_forgotten_first():
    reward, asked = counted()
    small = Cached(reward.reward, size=2)
    assert small(["a", "b", "c"]) == [1, 1, 1]
    small(["c", "b", "a"])
    assert asked == [["a", "b", "c"], ["a"]]


def test_an_async_reward_and_an_empty_cache_are_refused():
    async def judge(completions):
        return [0]

    with pytest.raises(ValueError, match="'judge' is async"):
        Cached(judge)
    with pytest.raises(ValueError, match="size=0"):
        Cached(len, size=0)
