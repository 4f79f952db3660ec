"""Rewards that raise, are slow or are flaky."""

from __future__ import annotations

import threading
import time

import pytest

from sepo.rewards import RewardCalls, RewardError
from tests.rewards.two import score


def test_a_reward_that_raises_names_the_function_and_keeps_the_cause():
    def broken(completions):
        return [1 / (len(text) - 1) for text in completions]

    with pytest.raises(
        RewardError, match=r"The reward 'broken' raised ZeroDivisionError: .*division by zero"
    ) as caught:
        score(broken)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.reward == "broken" and "reward_retries" in str(caught.value)


def test_an_exception_without_message_says_so():
    def broken(completions):
        raise RuntimeError

    with pytest.raises(RewardError, match="raised RuntimeError: no message"):
        score(broken)


def test_a_generator_that_raises_is_the_reward_raising():
    def broken(completions):
        for text in completions:
            yield {"a": 1.0}[text]

    with pytest.raises(RewardError, match="raised KeyError: 'bb'"):
        score(broken)


def flaky(failures, error=ConnectionError):
    """A reward that fails so many times first, and the calls that it got."""
    calls = []

    def reward(completions, log_metric, log_extra):
        calls.append(time.monotonic())
        log_metric("call", len(calls))
        log_extra("call", [len(calls)] * len(completions))
        if len(calls) <= failures:
            raise error("down")
        return [1.0, 2.0]

    return reward, calls


def test_a_flaky_reward_is_repeated_and_counted():
    reward, calls = flaky(2)
    scores = score(reward, retries=3, backoff=0)
    assert scores.total.tolist() == [1.0, 2.0]
    assert len(calls) == 3 and scores.metrics["rewards/reward/retries"] == 2
    assert "rewards/reward/timeouts" not in scores.metrics


def test_what_a_failed_call_logged_is_forgotten():
    reward, _ = flaky(2)
    scores = score(reward, retries=2, backoff=0)
    assert scores.metrics["call"] == 3 and scores.extras == {"call": [3, 3]}


def test_the_pause_before_a_retry_doubles():
    reward, calls = flaky(2)
    score(reward, retries=2, backoff=0.05)
    assert 0.05 <= calls[1] - calls[0] < calls[2] - calls[1]
    assert calls[2] - calls[1] >= 0.1


def test_a_reward_that_fails_in_every_attempt_says_how_often():
    reward, calls = flaky(9)
    with pytest.raises(RewardError, match=r"raised ConnectionError: down \(attempt 3 of 3\)"):
        score(reward, retries=2, backoff=0)
    assert len(calls) == 3


def test_a_wrong_return_is_not_repeated():
    calls = []

    def reward(completions):
        calls.append(True)
        return [1.0]

    with pytest.raises(RewardError, match="1 values for 2"):
        score(reward, retries=5, backoff=0)
    assert len(calls) == 1


def test_a_slow_reward_is_given_up_in_time():
    release = threading.Event()

    def slow(completions):
        release.wait(10)
        return [0, 0]

    start = time.monotonic()
    with pytest.raises(RewardError, match=r"'slow' did not return within 0.05 s \(attempt 1 of 1\)"):
        score(slow, timeout=0.05)
    assert time.monotonic() - start < 5
    release.set()


def test_a_reward_that_is_slow_once_is_repeated_and_counted_and_its_late_logs_are_lost():
    release, calls = threading.Event(), []

    def slow(completions, log_metric):
        calls.append(True)
        if len(calls) == 1:
            release.wait(10)
            log_metric("late", 1)
        return [3.0, 4.0]

    scores = score(slow, timeout=0.2, retries=1, backoff=0)
    release.set()
    assert scores.total.tolist() == [3.0, 4.0]
    assert scores.metrics["rewards/slow/retries"] == 1 and scores.metrics["rewards/slow/timeouts"] == 1
    assert "late" not in scores.metrics


def test_without_a_timeout_a_reward_runs_in_the_caller_s_thread():
    def reward(completions):
        assert threading.current_thread() is caller
        return [0, 0]

    caller = threading.current_thread()
    score(reward)
    with pytest.raises(RewardError, match="AssertionError"):
        score(reward, timeout=10)


def test_an_exception_within_the_timeout_keeps_its_type():
    def broken(completions):
        raise TimeoutError("the service's own")

    with pytest.raises(RewardError, match="raised TimeoutError: the service's own"):
        score(broken, timeout=10)


@pytest.mark.parametrize("timeout", [None, 10])
def test_an_interruption_is_not_a_failed_attempt(timeout):
    calls = []

    def reward(completions):
        calls.append(True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(reward, retries=3, backoff=0, timeout=timeout)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout=0: must be positive"),
        ({"timeout": -1.0}, "timeout=-1.0: must be positive"),
        ({"timeout": float("nan")}, "must be positive and finite"),
        ({"retries": -1}, "retries=-1: must not be negative"),
        ({"backoff": -0.5}, "backoff=-0.5: must not be negative"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RewardCalls(**options)
