"""What a command shows while it works: a few calm lines on stderr, so that stdout is free for its results."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers.utils import logging as transformers_logging

from sepo.runs import RunFolder, write_config

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
INTERRUPTED = 130
"""The exit code after Ctrl-C."""
LINES = 10
"""Lines of progress where there is no terminal to draw a bar in."""


def say(text: str) -> None:
    """One line of news. It may hold rich markup."""
    CONSOLE.print(text)


def prepare() -> None:
    """Silences what the libraries beneath us print by themselves: bars of single files, hints, warnings; and of several
    processes all but the first.
    """
    import huggingface_hub.utils as hub

    CONSOLE.quiet = int(os.environ.get("RANK", "0")) > 0
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub.disable_progress_bars()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def bar(counted: str) -> Progress:
    """A bar that vanishes when it is done; counted: how far it is, as rich writes it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn(counted),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[news]}"),
    )
    return Progress(*columns, console=CONSOLE, transient=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[float | int, str], None]]:
    """Yields told(done of total, news), which moves a bar with the time that is left; without a terminal, ten lines."""
    started, last = time.monotonic(), 0
    shown = bar("{task.percentage:.0f} %")
    task = shown.add_task(title, total=total, news="") if CONSOLE.is_terminal else None

    def told(done: float | int, news: str) -> None:
        nonlocal last
        if task is not None:
            shown.update(task, completed=done, news=escape(news))
        elif int(done * LINES / total) > last and done < total:
            last = int(done * LINES / total)
            say(f"{title}: {done / total:.0%}, {time_left(started, done, total)}{f'; {news}' if news else ''}")

    if task is not None:
        shown.start()
    try:
        yield told
    finally:
        if task is not None:
            shown.stop()


class ShowProgress(TrainerCallback):
    """A bar with the time that is left and the metrics named; without a terminal, ten lines in all."""

    def __init__(self, title: str, metrics: Sequence[str]) -> None:
        self.title, self.metrics = title, metrics
        self.latest: dict[str, float] = {}
        self.started, self.begun_at = time.monotonic(), 0
        self.bar = bar("{task.completed}/{task.total}")
        self.task: TaskID | None = None

    @contextmanager
    def over(self, trainer: Trainer) -> Iterator[None]:
        """Shows the progress of `trainer` in place of what transformers prints; ends with a line that sums up."""
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.add_callback(self)
        try:
            yield
        finally:
            if self.task is not None:
                self.bar.stop()
            trainer.remove_callback(self)
        took = f"{trainer.state.global_step} steps in {seconds(time.monotonic() - self.started)}"
        say(f"  {', '.join(filter(None, (took, self.news)))}")

    @property
    def news(self) -> str:
        return ", ".join(f"{name} {value:.3g}" for name, value in self.latest.items())

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started, self.begun_at = time.monotonic(), state.global_step
        if state.is_world_process_zero and CONSOLE.is_terminal:
            self.task = self.bar.add_task(self.title, total=state.max_steps, completed=state.global_step, news="")
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.task is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.latest |= {name: float(logs[name]) for name in self.metrics if logs and name in logs}
        if not state.is_world_process_zero:
            return
        if self.task is not None:
            self.bar.update(self.task, news=escape(self.news))
        elif (
            logs
            and state.global_step > self.begun_at
            and self._is_due(state.global_step, state.max_steps, args.logging_steps)
        ):
            left = time_left(self.started, state.global_step - self.begun_at, state.max_steps - self.begun_at)
            say(f"  step {state.global_step}/{state.max_steps}: {self.news}, {left}")

    def _is_due(self, step: int, steps: int, every: int | float) -> bool:
        """Whether a tenth of the steps has passed since the last line."""
        before = step - max(int(every), 1)
        return step < steps and before * LINES // max(steps, 1) < step * LINES // max(steps, 1)


class WriteRecipe(TrainerCallback):
    """config.yaml as a recipe that repeats the run, in place of the trainer's own options alone."""

    def __init__(self, run: RunFolder, recipe: Mapping[str, Any]) -> None:
        self.run, self.recipe = run, recipe

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            write_config(self.run, self.recipe)


def stopped(trainer: Any) -> str:
    """What Ctrl-C left, as the beginning of a sentence."""
    return f"Stopped by Ctrl-C after step {trainer.state.global_step}, with a checkpoint"


def time_left(started: float, done: float | int, total: int) -> str:
    """By what has been done since `started` (time.monotonic), as the rest of a line."""
    return f"about {seconds((time.monotonic() - started) * (total - done) / done)} left"


def seconds(duration: int | float) -> str:
    """A duration as people say it: 8 s, 2 min 05 s, 1 h 20 min."""
    whole = round(duration)
    if whole < 60:
        return f"{duration:.1f} s" if whole < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
