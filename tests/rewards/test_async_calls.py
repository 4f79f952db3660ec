"""Rewards that are async: they run at the same time, on one loop, and are given up in time."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from sepo.rewards import RewardError
from tests.rewards.two import score


def test_an_async_reward_that_raises_names_the_function_and_keeps_the_cause():
    async def broken(completions):
        raise KeyError("missing")

    with pytest.raises(RewardError, match="The reward 'broken' raised KeyError: 'missing'") as caught:
        score(broken)
    assert isinstance(caught.value.__cause__, KeyError)


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
