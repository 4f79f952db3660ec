"""Rewards as one: what functions are handed, what is summed, what is logged."""

from __future__ import annotations

import functools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sepo.rewards import RewardCalls, RewardError, Rewards
from tests.rewards.scored import COMPLETIONS, PROMPTS, length, score


def test_a_single_function_is_a_list_of_one():
    scores = score(length)
    assert scores.names == ("length",)
    assert scores.per_function.tolist() == [[1.0], [2.0], [3.0], [4.0]]
    assert scores.total.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert len(scores) == 4


def test_a_function_with_kwargs_gets_everything_that_trl_hands_over():
    seen = {}

    def reward(**kwargs):
        seen.update(kwargs)
        return [0] * 4

    state = SimpleNamespace(global_step=7)
    score(reward, columns={"answer": [1, 2, 3, 4]}, state=state)
    assert set(seen) == {
        "prompts",
        "completions",
        "completion_ids",
        "answer",
        "trainer_state",
        "log_extra",
        "log_metric",
    }
    assert seen["prompts"] == PROMPTS and seen["completions"] == COMPLETIONS and seen["answer"] == [1, 2, 3, 4]
    assert seen["completion_ids"] == [[0], [1, 1], [2, 2, 2], [3, 3, 3, 3]]
    assert seen["trainer_state"].global_step == 7


def test_a_function_without_kwargs_gets_only_what_it_names():
    def reward(completions, answer, unknown=5):
        assert unknown == 5
        return [float(text == right) for text, right in zip(completions, answer, strict=True)]

    assert score(reward, columns={"answer": ["a", "b", "ccc", "d"], "other": [0] * 4}).total.tolist() == [1, 0, 1, 0]


def test_methods_objects_partials_builtins_and_modules_are_rewards():
    class Scorer:
        def reward(self, completions):
            return [1.0] * len(completions)

        def __call__(self, completions):
            return [2.0] * len(completions)

    class Network(torch.nn.Module):
        def forward(self, completions):
            return torch.full((len(completions), 1), 3.0, requires_grad=True)

    def scaled(completions, by):
        return [by * 1.0] * len(completions)

    scorer = Scorer()
    scores = score([scorer.reward, scorer, Network(), functools.partial(scaled, by=4)])
    assert scores.per_function[0].tolist() == [1, 2, 3, 4]
    assert scores.names == ("reward", "Scorer", "Network", "scaled")


def test_a_wrapped_function_is_asked_by_the_signature_of_what_it_wraps():
    def twice(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return [2 * value for value in function(*args, **kwargs)]

        return wrapper

    @twice
    def reward(completions):
        return [len(text) for text in completions]

    assert score(reward).total.tolist() == [2, 4, 6, 8]


def test_equal_names_are_made_unique_and_lambdas_have_one():
    scores = score([length, length, lambda completions: [0] * 4, lambda completions: [1] * 4, length])
    assert scores.names == ("length", "length_2", "lambda", "lambda_2", "length_3")
    assert scores.metrics["rewards/length_3/mean"] == 2.5


def test_a_name_that_is_taken_already_is_skipped():
    def length_2(completions):
        return [0] * 4

    assert score([length_2, length, length]).names == ("length_2", "length", "length_3")


def test_weights_multiply_and_none_is_left_out_of_the_sum():
    def only_short(completions, **kwargs):
        return [10.0 if len(text) < 3 else None for text in completions]

    scores = score([length, only_short], weights=[2.0, 0.5])
    assert scores.total.tolist() == [7.0, 9.0, 6.0, 8.0]
    assert scores.by_name() == {"length": [1, 2, 3, 4], "only_short": [10, 10, None, None]}


def test_a_completion_to_which_no_reward_applies_has_no_total_and_is_counted():
    scores = score([lambda completions: [1, None, None, 2], lambda completions: [None, None, 3, 4]])
    assert math.isnan(scores.total[1])
    assert scores.total[[0, 2, 3]].tolist() == [1, 3, 6]
    assert scores.metrics["frac_reward_none"] == 0.25


def test_a_reward_of_weight_zero_is_watched_and_rewards_nothing():
    scores = score([length, lambda completions: [None, 1, 1, None]], weights=[0.0, 1.0])
    assert math.isnan(scores.total[0]) and math.isnan(scores.total[3])
    assert scores.metrics["rewards/length/mean"] == 2.5


def test_mean_and_deviation_are_those_of_trl_over_what_applies():
    scores = score(lambda completions: [1.0, 4.0, None, 10.0])
    assert scores.metrics["rewards/lambda/mean"] == 5.0
    assert scores.metrics["rewards/lambda/std"] == pytest.approx(np.std([1, 4, 10], ddof=1))


def test_a_reward_that_applies_nowhere_has_metrics_without_value():
    metrics = score(lambda completions: [None] * 4).metrics
    assert math.isnan(metrics["rewards/lambda/mean"]) and math.isnan(metrics["rewards/lambda/std"])
    assert metrics["frac_reward_none"] == 1.0


def test_the_deviation_of_a_single_value_is_zero():
    assert score(length, completions=["a"]).metrics["rewards/length/std"] == 0.0


def test_the_metrics_are_the_same_whatever_the_values():
    """Processes that gather metrics need the same names."""
    calls = RewardCalls(timeout=10, retries=1, backoff=0, non_finite_as_none=True)
    keys = [score(lambda completions, v=value: [v] * 4, calls=calls).metrics.keys() for value in (1.0, None, math.nan)]
    assert keys[0] == keys[1] == keys[2]
    assert "rewards/lambda/retries" in keys[0] and "rewards/lambda/non_finite" in keys[0]


def test_logged_metrics_are_averaged_over_calls_and_rewards():
    def reward(completions, log_metric, **kwargs):
        log_metric("accuracy", 1)
        log_metric("accuracy", np.float32(0.5))
        return [0] * len(completions)

    def other(completions, log_metric):
        log_metric("accuracy", torch.tensor(0.0))
        log_metric("speed", True)
        return [0] * len(completions)

    metrics = score([reward, other]).metrics
    assert metrics["accuracy"] == 0.5 and metrics["speed"] == 1.0


def test_extra_columns_keep_their_values_and_may_come_in_parts():
    def reward(completions, log_extra, **kwargs):
        log_extra("upper", [text.upper() for text in completions])
        log_extra("half", np.arange(2))
        log_extra("half", torch.arange(2, 4))
        return [0] * 4

    assert score(reward).extras == {"upper": ["A", "BB", "CCC", "DDDD"], "half": [0, 1, 2, 3]}


def test_an_extra_column_of_the_wrong_length_names_both_lengths():
    def reward(completions, log_extra):
        log_extra("column", [1, 2])
        return [0] * 4

    with pytest.raises(RewardError, match="'reward' logged 2 values in the extra column 'column' for 4 completions"):
        score(reward)


def test_an_extra_column_of_two_rewards_names_both():
    def one(completions, log_extra):
        log_extra("column", completions)
        return [0] * 4

    def two(completions, log_extra):
        log_extra("column", completions)
        return [0] * 4

    with pytest.raises(RewardError, match="'one' and 'two' both logged the extra column 'column': rename one"):
        score([one, two])


def test_a_logged_metric_must_be_a_number_and_its_name_free():
    def text(completions, log_metric):
        log_metric("name", "0.5")
        return [0] * 4

    def taken(completions, log_metric):
        log_metric("rewards/taken/mean", 0.5)
        return [0] * 4

    with pytest.raises(RewardError, match="must be a number"):
        score(text)
    with pytest.raises(RewardError, match=r"rewards/taken/mean.*choose another name"):
        score(taken)


def test_a_reward_that_changes_its_lists_does_not_change_those_of_the_next():
    def greedy(completions, **kwargs):
        values = [1.0] * len(completions)
        completions.clear()
        return values

    assert score([greedy, length]).per_function[:, 1].tolist() == [1, 2, 3, 4]


def test_rewards_are_handed_arrays_and_unconditional_prompts_as_they_are():
    arrays = [np.array([0, 1, 2]), np.array([2, 1, 0])]

    def reward(prompts, completions):
        assert prompts == [None, None]
        assert all(isinstance(completion, np.ndarray) for completion in completions)
        return [completion.argmax() for completion in completions]

    assert Rewards.of(reward)([None, None], arrays).total.tolist() == [2, 0]


def test_chat_completions_arrive_as_messages():
    chat = [[{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "no"}]]

    def reward(completions, **kwargs):
        return [len(completion[0]["content"]) for completion in completions]

    assert Rewards.of(reward)([[{"role": "user", "content": "?"}]] * 2, chat).total.tolist() == [3, 2]


def test_the_functions_of_trl_s_documentation_run_unchanged():
    def format_reward(completions, **kwargs):
        pattern = r"^<think>.*?</think><answer>.*?</answer>$"
        return [1.0 if re.match(pattern, completion[0]["content"]) else 0.0 for completion in completions]

    def echo(prompts, completions, task, **kwargs):
        rows = zip(prompts, completions, task, strict=True)
        return [float(prompt in text) if kind == "echo" else None for prompt, text, kind in rows]

    said = ["<think>t</think><answer>a</answer>", "a"]
    chat = [[{"role": "assistant", "content": text}] for text in said]
    assert Rewards.of(format_reward)([None, None], chat).total.tolist() == [1.0, 0.0]
    scores = Rewards.of(echo)(["a", "b", "c"], ["xa", "x", "c"], columns={"task": ["echo", "echo", "math"]})
    assert scores.by_name() == {"echo": [1.0, 0.0, None]}
