"""Callbacks of the trainers: the reference follows, Ctrl-C saves, the run folder is written, steps are timed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from sepo.runs import RunFolder, log_metrics
from sepo.training.reference import Synced

logger = logging.get_logger(__name__)


class FollowPolicy(TrainerCallback):
    """Moves a synced reference after every optimizer step."""

    def __init__(self, reference: Synced, network: Any) -> None:
        self.reference, self.network = reference, network

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.reference.follow(self.network, state.global_step)


class WriteMetrics(TrainerCallback):
    """Appends every log line to metrics.jsonl.

    Raises:
        OSError: the disk is full or not writable.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        line = {name: value for name, value in logs.items() if name != "total_flos"}
        try:
            log_metrics(self.run, state.global_step, line)
        except OSError as error:
            raise OSError(
                f"{self.run.metrics} could not be written ({error}). Free some space and resume from the last "
                "checkpoint."
            ) from error


@dataclass(eq=False)
class TimeSteps(TrainerCallback):
    """Notes `step_time`: seconds from the end of one optimizer step to the end of the next, as in TRL."""

    note: Callable[[dict[str, float]], None]
    last: float = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.last = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        self.note({"step_time": now - self.last})
        self.last = now


@dataclass(eq=False)
class StopOnInterrupt(TrainerCallback):
    """The first Ctrl-C ends the run after the optimizer step in progress, with a checkpoint; the second ends it at
    once.

    any_process: whether a flag is set on any of the processes, so that all of them stop after the same step.
    """

    any_process: Callable[[bool], bool] = bool
    interrupted: bool = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.interrupted = self.any_process(self.interrupted)
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Only the main thread can listen; elsewhere Ctrl-C keeps its meaning."""
        self.interrupted = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        logger.warning("Ctrl-C: the run ends after this step, with a checkpoint. Press it again to end it at once.")
