"""Calls that their caller can stop waiting for: in a thread of their own, and coroutines in one event loop.

The loop lives in a thread as long as the process, so that clients with open connections serve every call of an async
reward, and so that rewards work where a loop is running already, such as a notebook.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class OutOfTime(Exception):
    """A call took longer than its caller wants to wait."""


def within(seconds: float | int | None, call: Callable[[], T]) -> T:
    """call() in a thread of its own; at once in this one if there is no limit.

    Raises:
        OutOfTime: after `seconds`. Python cannot end a thread: the call runs on, and what it returns is lost.
    """
    if seconds is None:
        return call()
    outcome: queue.SimpleQueue[tuple[list[T], BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(([call()], None))
        except BaseException as error:
            outcome.put(([], error))

    threading.Thread(target=contextvars.copy_context().run, args=(work,), name="sepo-reward", daemon=True).start()
    try:
        values, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise OutOfTime from None
    if error is not None:
        raise error
    return values[0]


async def awaited_within(seconds: float | int | None, coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's value.

    Raises:
        OutOfTime: after `seconds`; the coroutine is cancelled.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody waits for it any more
        raise OutOfTime
    return task.result()


def run_in_loop(coroutine: Coroutine[Any, Any, T], seconds: float | int | None = None) -> T:
    """The coroutine's value, computed in the background loop.

    Raises:
        OutOfTime: after `seconds`: something holds the loop up. The next call gets a new one.
        ValueError: called from within the background loop, which would wait for itself.
    """
    background = _background_loop()
    if threading.current_thread() is background.thread:
        coroutine.close()
        raise ValueError(
            "An async reward called rewards and waits for them in its own event loop; call them with asyncio.to_thread."
        )
    future = asyncio.run_coroutine_threadsafe(coroutine, background.loop)
    try:
        return future.result(seconds)
    except concurrent.futures.TimeoutError:
        _forget(background)
        raise OutOfTime from None
    finally:
        future.cancel()  # an interruption ends the coroutine; a finished one does not mind


@dataclass(frozen=True, eq=False)
class _Background:
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    process: int


_lock = threading.Lock()
_running: list[_Background] = []
"""The background loop of this process; empty until an async reward is called."""


def _background_loop() -> _Background:
    with _lock:
        if _running and (_running[0].process != os.getpid() or not _running[0].thread.is_alive()):
            _running.clear()  # a fork copies the loop, not its thread
        if not _running:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="sepo-async-rewards", daemon=True)
            thread.start()
            _running.append(_Background(loop, thread, os.getpid()))
        return _running[0]


def _forget(background: _Background) -> None:
    with _lock:
        if background in _running:
            _running.remove(background)
