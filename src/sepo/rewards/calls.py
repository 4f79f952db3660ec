"""Calling rewards: the sync ones in turn, the async ones all at once, each within its time and again if it fails."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sepo.rewards.background import OutOfTime, awaited_within, run_in_loop, within
from sepo.rewards.errors import RewardError
from sepo.rewards.logbook import Logbook
from sepo.rewards.request import Request, accepted

Reward = Callable[..., Any]
"""f(prompts=, completions=, completion_ids=, **columns, trainer_state=, log_extra=, log_metric=) -> one float or None
per completion."""


@dataclass(frozen=True)
class RewardCalls:
    """How rewards are called.

    Args:
        timeout: seconds that one call of one reward may take; None: no limit. A sync reward is then called in a thread
            of its own, which cannot be ended: a call that is given up runs on beside its retry.
        retries: calls repeated after an exception or a timeout. A return that is not a reward is not repeated.
        backoff: seconds before the first retry; doubled before each further one.
        non_finite_as_none: NaN and infinities mean *not applicable*, and are counted, instead of stopping the run.
    """

    timeout: float | int | None = None
    retries: int = 0
    backoff: float | int = 1.0
    non_finite_as_none: bool = False

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout={self.timeout}: must be positive and finite, in seconds; None sets no limit.")
        if self.retries < 0:
            raise ValueError(f"retries={self.retries}: must not be negative; 0 calls each reward once.")
        if not 0 <= self.backoff < math.inf:
            raise ValueError(f"backoff={self.backoff}: must not be negative or infinite; 0 retries at once.")

    def pause(self, retry: int) -> float | int:
        """Seconds before a retry, counted from 1."""
        return self.backoff * 2 ** (retry - 1)

    def longest(self) -> float | int | None:
        """Seconds after which even a reward whose every attempt times out is through."""
        if self.timeout is None:
            return None
        return self.timeout * (self.retries + 1) + sum(self.pause(retry) for retry in range(1, self.retries + 1))


@dataclass(eq=False)
class Answer:
    """What became of one reward: what it returned and logged at last, and what it took. Filled in while it is asked."""

    returned: Any = None
    logbook: Logbook = field(default_factory=Logbook)
    retries: int = 0
    timeouts: int = 0
    done: bool = False


def is_async(reward: Reward) -> bool:
    """Whether it is an `async def`: a function, a method, a partial of one, or an object whose `__call__` is."""
    while isinstance(reward, functools.partial):
        reward = reward.func
    return inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(type(reward).__call__)


def answers(rewards: Sequence[Reward], names: Sequence[str], request: Request, calls: RewardCalls) -> list[Answer]:
    """One answer per reward, in order.

    Raises:
        RewardError: a reward failed in every attempt, or needs an argument that there is not.
    """
    for reward, name in zip(rewards, names, strict=True):
        accepted(reward, request.keywords(Logbook()), name)
    found = [Answer() for _ in rewards]
    waiting = []
    for reward, name, answer in zip(rewards, names, found, strict=True):
        if is_async(reward):
            waiting.append((reward, name, answer))
        else:
            _ask(reward, name, request, calls, answer)
    if waiting:
        _ask_together(waiting, request, calls)
    return found


def _ask(reward: Reward, name: str, request: Request, calls: RewardCalls, answer: Answer) -> None:
    def attempt(logbook: Logbook) -> Any:
        returned = reward(**accepted(reward, request.keywords(logbook), name))
        if inspect.iscoroutine(returned):  # a sync function around an async one
            returned = run_in_loop(returned)
        return _exhausted(returned)

    while not answer.done:
        if answer.retries:
            time.sleep(calls.pause(answer.retries))
        logbook = Logbook()
        try:
            returned = within(calls.timeout, functools.partial(attempt, logbook))
        except Exception as error:
            _failed(name, error, calls, answer)
        else:
            answer.returned, answer.logbook, answer.done = returned, logbook, True


async def _ask_async(reward: Reward, name: str, request: Request, calls: RewardCalls, answer: Answer) -> None:
    async def attempt(logbook: Logbook) -> Any:
        return _exhausted(await reward(**accepted(reward, request.keywords(logbook), name)))

    while not answer.done:
        if answer.retries:
            await asyncio.sleep(calls.pause(answer.retries))
        logbook = Logbook()
        try:
            returned = await awaited_within(calls.timeout, attempt(logbook))
        except Exception as error:
            _failed(name, error, calls, answer)
        else:
            answer.returned, answer.logbook, answer.done = returned, logbook, True


def _ask_together(waiting: Sequence[tuple[Reward, str, Answer]], request: Request, calls: RewardCalls) -> None:
    """Awaits all; the first failure in the order of the list is raised when all have ended."""

    async def gathered() -> list[BaseException | None]:
        asking = (_ask_async(reward, name, request, calls, answer) for reward, name, answer in waiting)
        return await asyncio.gather(*asking, return_exceptions=True)

    longest = calls.longest()
    try:
        ends = run_in_loop(gathered(), None if longest is None or calls.timeout is None else longest + calls.timeout)
    except OutOfTime:
        names = [name for _, name, answer in waiting if not answer.done]
        raise RewardError(
            f"Async rewards hold up their event loop for longer than the timeout of {calls.timeout} s; unfinished are "
            f"{', '.join(map(repr, names))}. Await what is slow, with asyncio.to_thread if it cannot be awaited, or "
            "use a plain def.",
            names[0] if len(names) == 1 else None,
        ) from None
    for end in ends:
        if end is not None:
            raise end


def _exhausted(returned: Any) -> Any:
    """An iterator is read within the attempt: what it raises is the reward's doing."""
    return list(returned) if inspect.isgenerator(returned) or isinstance(returned, (map, filter, zip)) else returned


def _failed(name: str, error: Exception, calls: RewardCalls, answer: Answer) -> None:
    """Counts a failed attempt; raises if it was the last, or if another would fail alike."""
    if isinstance(error, RewardError):
        raise error
    late = isinstance(error, OutOfTime)
    answer.timeouts += late
    if answer.retries < calls.retries:
        answer.retries += 1
        return
    attempts = f"attempt {calls.retries + 1} of {calls.retries + 1}"
    if late:
        raise RewardError(
            f"The reward {name!r} did not return within {calls.timeout} s ({attempts}). Make it faster, or allow "
            "more: RewardCalls(timeout=..., retries=...), reward_timeout and reward_retries in the config.",
            name,
        ) from None
    text = str(error).rstrip(".") or "no message"
    raise RewardError(
        f"The reward {name!r} raised {type(error).__name__}: {text} ({attempts}). Mend it, let it return None for "
        "completions that it cannot judge, or repeat it if it is flaky: RewardCalls(retries=...), reward_retries in "
        "the config.",
        name,
    ) from error
