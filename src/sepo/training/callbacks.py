"""Callbacks of the trainer: the reference follows, Ctrl-C saves, the run folder is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sepo.runs import RunFolder, log_metrics
from sepo.training.reference import Synced


class FollowPolicy(TrainerCallback):
    """Moves a synced reference after every optimizer step."""

    def __init__(self, reference: Synced, network: Any) -> None:
        self.reference, self.network = reference, network

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.reference.follow(self.network, state.global_step)


class WriteMetrics(TrainerCallback):
    """Appends every log line to metrics.jsonl."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and logs:
            log_metrics(
                self.run, state.global_step, {name: value for name, value in logs.items() if name != "total_flos"}
            )


class StopOnInterrupt(TrainerCallback):
    """The first Ctrl-C ends the run after the optimizer step in progress, with a checkpoint; the second ends it at
    once.
    """

    def __init__(self) -> None:
        self.interrupted = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Only the main thread can listen; elsewhere Ctrl-C keeps its meaning."""
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
