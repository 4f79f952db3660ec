"""A network in its SEPOTrainer: what rollouts and steps take there, and the same calls with nothing around them."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from threading import Event, Thread
from typing import Any

import psutil
import torch
from cells import Record
from stopwatch import Clock, Stopwatch
from text_sizes import Kind, Size, Weights, adapters_of, peak_of, policy_of
from torch import nn
from transformers import PrinterCallback, TrainerCallback

from sepo.diffusion.denoiser import Call, evaluating
from sepo.ops import Chance
from sepo.samplers import roll
from sepo.training import SEPOConfig, SEPOTrainer

Made = Counter[Kind]

SPAN = 0.1
"""Seconds over which calls of the network alone are averaged, at most 32 of them."""


@dataclass(frozen=True)
class Settings:
    device: str
    repeats: int
    threads: int

    @property
    def clock(self) -> Clock:
        return Clock(torch.device(self.device), wall=self.device != "cpu" or self.threads > 1)

    @property
    def machine(self) -> str:
        on_gpu = torch.device(self.device).type == "cuda"
        return torch.cuda.get_device_name(self.device) if on_gpu else platform.processor() or platform.machine()


class Calls:
    """A family's call, the calls that were made of it, and the inputs of one of each kind."""

    def __init__(self, call: Call, watch: Stopwatch) -> None:
        self.call, self.watch = call, watch
        self.made: Made = Counter()
        self.inputs: dict[Kind, tuple[Any, ...]] = {}

    def __call__(self, network: nn.Module, xt: Any, sigma: Any, attend: Any = None, sites: Any = None) -> Any:
        read = xt.shape[1] if sites is None else sites.shape[1]
        kind = Kind(self.watch.open[-1] == "reference", torch.is_grad_enabled(), *xt.shape, read)
        self.made[kind] += 1
        self.inputs.setdefault(kind, (xt, sigma, attend, sites))
        return self.call(network, xt, sigma, attend, sites)

    def take(self) -> Made:
        made, self.made = self.made, Counter()
        return made


class Peak:
    """Bytes between `start` and `stop` at most: of tensors on a GPU, else resident in this process, by samples."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def start(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        self.most, self.over = 0, Event()
        self.thread = Thread(target=self._sample, daemon=True)
        self.thread.start()

    def _sample(self) -> None:
        process = psutil.Process()
        while not self.over.wait(0.02):
            self.most = max(self.most, process.memory_info().rss)

    def stop(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        self.over.set()
        self.thread.join()
        return max(self.most, psutil.Process().memory_info().rss)


class Subject(TrainerCallback):
    """A network in its trainer; what each step took, by section, and the calls that it made. The first warms up."""

    def __init__(self, size: Size, sampler: str, settings: Settings, folder: str) -> None:
        policy = policy_of(size, settings.device)
        self.size, self.settings, self.weights = size, settings, Weights.of(policy.network)  # type: ignore[arg-type]
        self.clock, self.peak = settings.clock, Peak(settings.device)
        self.watch = Stopwatch(self.clock)
        self.calls = Calls(policy.call, self.watch)
        self.laps: list[tuple[dict[str, float], Made]] = []
        self.alone: dict[Kind, float] = {}
        length = size.prompt + size.completion
        self.row = {"tokens": [7] * length, "free": [site >= size.prompt for site in range(length)]}
        self.trainer = SEPOTrainer(
            model=replace(policy, call=self.calls),
            reward_funcs=lambda completions, **columns: [float((each % 2).mean()) for each in completions],
            args=options(size, sampler, settings, folder),
            train_dataset=[self.row],
            callbacks=[self],
            peft_config=adapters_of(size),
        )
        self.trainer.remove_callback(PrinterCallback)

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.watch.lap()
        self.calls.take()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.laps.append((self.watch.lap(), self.calls.take()))
        if len(self.laps) == 1:
            self.peak.start()

    def rollout(self) -> Record:
        """Of one group, in the mode and precision in which the trainer samples."""
        collector, size = self.trainer.collector, self.size
        canvas = collector.prompts.canvas([self.row] * size.group).to(collector.policy.device)

        def once() -> tuple[float, Made]:
            with collector.precision():
                start = self.clock()
                roll(collector.sampler, collector.policy, canvas, Chance.of(0, size.group, collector.policy.device))
                return self.clock() - start, self.calls.take()

        once()
        self.peak.start()
        runs = [once() for _ in range(self.settings.repeats)]
        memory, told = self.peak.stop(), self.told(runs)
        return told | {"tokens_per_second": size.group * size.completion / told["seconds"], "memory": memory}

    def step(self) -> Record:
        """Of the trainer, all included."""
        with self.watch.watching():
            self.trainer.train()
        memory, measured = self.peak.stop(), self.laps[1:]
        parts = {name: median(lap.get(name, 0.0) for lap, _ in measured) for name in ("rollout", "reference")}
        told = self.told([(sum(lap.values()), made) for lap, made in measured])
        return told | parts | {"update": told["seconds"] - sum(parts.values()), "memory": memory}

    def told(self, runs: list[tuple[float, Made]]) -> Record:
        """Medians over runs of seconds and calls; of_peak, busy: None where the card's peak is not known."""
        top = peak_of(self.settings.machine)

        def middle(worth: Callable[[Kind], float], of_time: float | None = None) -> float:
            sums = [(sum(count * worth(kind) for kind, count in made.items()), seconds) for seconds, made in runs]
            return median(total if of_time is None else total / seconds / of_time for total, seconds in sums)

        return {
            "seconds": median(seconds for seconds, _ in runs),
            "evaluations": middle(lambda kind: kind.rows),
            "with_gradient": middle(lambda kind: kind.rows * kind.gradient),
            "bare": middle(self.seconds_alone, 1.0),
            "of_peak": None if top is None else middle(lambda kind: kind.operations(self.weights), top),
            "busy": None if top is None else middle(lambda kind: kind.done(self.weights), top),
        }

    def seconds_alone(self, kind: Kind) -> float:
        """A call of this kind, and its backward, with nothing around it: the median of means over SPAN."""
        if kind not in self.alone:
            number = max(1, min(32, round(SPAN / self._mean(kind, 1))))
            self.alone[kind] = median(self._mean(kind, number) for _ in range(self.settings.repeats))
            self.trainer.policy.network.zero_grad()
        return self.alone[kind]

    def _mean(self, kind: Kind, number: int) -> float:
        """After one to warm up; under one autocast without gradient, as in a rollout, which casts the weights once."""
        policy, reference, precision = self.trainer.policy, self.trainer.reference, self.trainer.accelerator.autocast

        def once() -> None:
            with precision():
                logits = self.calls.call(policy.network, *self.calls.inputs[kind])
            if kind.gradient:
                logits.backward(torch.ones_like(logits))

        with ExitStack() as stack:
            if kind.gradient:
                policy.network.train()
            else:
                stack.enter_context(evaluating(policy.network))
                stack.enter_context(precision())
            if kind.reference and reference is not None:
                policy = stack.enter_context(reference.policy(policy))
            stack.enter_context(torch.set_grad_enabled(kind.gradient))
            once()
            start = self.clock()
            for _ in range(number):
                once()
            return (self.clock() - start) / number


def options(size: Size, sampler: str, settings: Settings, folder: str) -> SEPOConfig:
    checkpointing: dict[str, Any] = {"gradient_checkpointing": True} if size.mlp else {}
    return SEPOConfig(
        output_dir=folder,
        max_steps=1 + settings.repeats,
        per_device_train_batch_size=size.micro,
        gradient_accumulation_steps=size.group // size.micro,
        num_generations=size.group,
        sampler=sampler,
        sampling_steps=size.few if sampler == "ancestral" else None,
        states=size.states,
        beta=0.02,
        bf16=settings.device != "cpu",
        use_cpu=settings.device == "cpu",
        save_strategy="no",
        save_completions=False,
        report_to="none",
        disable_tqdm=True,
        **checkpointing,
    )
