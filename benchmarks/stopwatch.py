"""A stopwatch that charges every moment to the innermost open section, and hooks that open sections in a trainer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from transformers import Trainer, TrainerCallback

from sepo.diffusion.denoiser import Call
from sepo.objectives import Objective
from sepo.rewards import Rewards
from sepo.training import collector
from sepo.training.trainer import SEPOTrainer

FORWARD, BACKWARD = "network forward", "network backward"
SECTIONS = ("rollout", "reference", "reading", "loss", "reward", "optimizer", "logging", "other")
"""What a step spends outside the network: the sampler around its forwards; the same for the reference's log-probability
of the path, and for views and their reading by the policy; the loss and its own backward; the reward function; clipping
and the optimizer; log lines and files; the rest (transformers' loop, advantages, metrics)."""

PLACES: tuple[tuple[Any, str, str], ...] = (
    (collector, "roll", "rollout"),
    (collector.Collector, "log_ratio", "reference"),
    (collector.Collector, "experiences", "reading"),
    (Objective, "read", "reading"),
    (Rewards, "__call__", "reward"),
    (SEPOTrainer, "compute_loss", "loss"),
    (Accelerator, "backward", "loss"),
    (Trainer, "_clip_grad_norm", "optimizer"),
    (SEPOTrainer, "_get_grad_norm", "optimizer"),
    (AcceleratedOptimizer, "step", "optimizer"),
    (torch.nn.Module, "zero_grad", "optimizer"),
    (Trainer, "_maybe_log_save_evaluate", "logging"),
)


@dataclass(frozen=True)
class Clock:
    """Seconds: of this process's CPU, which neighbours on the machine lengthen little, or of the wall."""

    device: torch.device
    wall: bool = False

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() if self.wall else time.process_time()


class Stopwatch:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.open = ["other"]
        self.spent: dict[str, float] = defaultdict(float)
        self.since = clock()

    def charge(self) -> None:
        now = self.clock()
        self.spent[self.open[-1]] += now - self.since
        self.since = now

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.charge()
        self.open.append(name)
        try:
            yield
        finally:
            self.charge()
            self.open.pop()

    def becomes(self, name: str) -> None:
        """The innermost section goes on under another name."""
        self.charge()
        self.open[-1] = name

    def lap(self) -> dict[str, float]:
        """Seconds by section since the last lap."""
        self.charge()
        spent, self.spent = dict(self.spent), defaultdict(float)
        return spent

    def timed(self, function: Callable[..., Any], section: str) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.section(section):
                return function(*args, **kwargs)

        return wrapper

    def network(self, call: Call) -> Call:
        """`call` charged to the network; once the gradient arrives at its logits, so is the backward."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.section(FORWARD):
                logits = call(*args, **kwargs)
            if logits.requires_grad:
                logits.register_hook(lambda gradient: self.becomes(BACKWARD))
            return logits

        return wrapper

    @contextmanager
    def watching(self) -> Iterator[None]:
        """All trainers of this process are timed at PLACES."""
        with ExitStack() as patches:
            for owner, name, section in PLACES:
                patches.enter_context(patch.object(owner, name, self.timed(getattr(owner, name), section)))
            yield


class Laps(TrainerCallback):
    """A lap per optimizer step: the log line of the step before, the collection, the update."""

    def __init__(self, watch: Stopwatch, evaluations: Callable[[], tuple[int, int]]) -> None:
        self.watch, self.evaluations = watch, evaluations
        self.laps: list[dict[str, float]] = []
        self.counts: list[tuple[int, int]] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.laps.append(self.watch.lap())
        self.counts.append(self.evaluations())
