"""Rewards that raise, are slow, are flaky or are async."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from sepo.rewards import RewardCalls, RewardError, Rewards

COMPLETIONS = ["a", "bb"]


def score(reward_funcs, **options):
    return Rewards.of(reward_funcs, calls=RewardCalls(**options))([None] * 2, COMPLETIONS)


def test_a_reward_that_raises_names_the_function_and_keeps_the_cause():
    def broken(completions):
        return [1 / (len(text) - 1) for text in completions]

    with pytest.raises(
        RewardError, match=r"The reward 'broken' raised ZeroDivisionError: .*division by zero"
    ) as caught:
        score(broken)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.reward == "broken" and "reward_retries" in str(caught.value)


def test_an_async_reward_that_raises_names_the_function_and_keeps_the_cause():
    async def broken(completions):
        raise KeyError("missing")

    with pytest.raises(RewardError, match="The reward 'broken' raised KeyError: 'missing'") as caught:
        score(broken)
    assert isinstance(caught.value.__cause__, KeyError)


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


def test_async_rewards_run_at_the_same_time_and_stay_in_their_columns():
    """Each waits for the other: in turn they would never end."""
    events = []

    def meeting(mine, value):
        async def reward(completions, **kwargs):
            if not events:
                events.extend([asyncio.Event(), asyncio.Event()])
            events[mine].set()
            await asyncio.wait_for(events[1 - mine].wait(), 10)
            return [value] * len(completions)

        return reward

    def sync(completions):
        return [5, 5]

    scores = score([meeting(0, 1.0), sync, meeting(1, 2.0)])
    assert scores.per_function.tolist() == [[1, 5, 2], [1, 5, 2]]


def test_async_methods_objects_and_sync_functions_around_async_ones_are_awaited():
    class Judge:
        async def method(self, completions):
            return [1, 1]

        async def __call__(self, completions):
            return [2, 2]

    async def plain(completions):
        return [3, 3]

    judge = Judge()
    scores = score([judge.method, judge, lambda completions: plain(completions)])
    assert scores.per_function[0].tolist() == [1, 2, 3]


def test_async_rewards_work_where_a_loop_is_running():
    async def reward(completions):
        await asyncio.sleep(0)
        return [1, 2]

    async def notebook():
        return score(reward).total.tolist()

    assert asyncio.run(notebook()) == [1, 2]


def test_async_rewards_meet_the_same_loop_in_every_call():
    loops = []

    async def reward(completions):
        loops.append(asyncio.get_running_loop())
        return [0, 0]

    score(reward)
    score([reward, reward])
    assert len(loops) == 3 and len(set(map(id, loops))) == 1


def test_a_slow_async_reward_is_cancelled_repeated_and_counted():
    calls, cancelled = [], []

    async def slow(completions):
        calls.append(True)
        if len(calls) == 1:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
        return [1, 2]

    scores = score(slow, timeout=0.1, retries=1, backoff=0)
    assert scores.total.tolist() == [1, 2] and cancelled
    assert scores.metrics["rewards/slow/timeouts"] == 1


def test_a_slow_async_reward_is_named_and_does_not_fail_the_others():
    async def slow(completions):
        await asyncio.sleep(10)

    ended = []

    async def quick(completions):
        await asyncio.sleep(0.01)
        ended.append(True)
        return [0, 0]

    with pytest.raises(RewardError, match=r"'slow' did not return within 0.1 s"):
        score([slow, quick], timeout=0.1)
    assert ended


def test_an_async_reward_that_blocks_its_loop_is_found_out_and_the_next_call_works():
    release = threading.Event()

    async def blocking(completions):
        release.wait(10)
        return [0, 0]

    async def fine(completions):
        return [1, 2]

    with pytest.raises(RewardError, match=r"hold up their event loop.*'blocking'.*asyncio.to_thread"):
        score(blocking, timeout=0.1)
    assert score(fine, timeout=10).total.tolist() == [1, 2]
    release.set()


def test_an_async_reward_that_calls_rewards_in_its_own_loop_is_told_so():
    async def inner(completions):
        return [1, 2]

    async def outer(completions):
        return score(inner).total

    with pytest.raises(RewardError, match="waits for them in its own event loop"):
        score(outer)


def test_a_failing_sync_reward_leaves_no_coroutine_behind(recwarn):
    async def waiting(completions):
        return [0, 0]

    def broken(completions):
        raise RuntimeError("broken")

    with pytest.raises(RewardError, match="broken"):
        score([waiting, broken])
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


@pytest.mark.skipif(os.name != "posix", reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_a_loop_of_its_own():
    async def reward(completions):
        return [1, 2]

    score(reward)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if score(reward).total.tolist() == [1, 2] else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


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
