"""Judging: what reward and task say of a model, from fresh samples, before and after training, and along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sepo.cli.guiding import Guidance
from sepo.cli.rows import Row
from sepo.cli.samples import Samples, draw_samples, metrics_of, path_kl, rows_for, scores_of
from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.rewards import NamedReward, Rewards, reward_name
from sepo.samplers import Sampler
from sepo.tasks import Task
from sepo.training import Frozen
from sepo.training.prompts import Prompts


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples of a model, their mean reward (NaN: it applied to none), and the task's metrics of them."""

    samples: Samples
    reward: float
    rewards: dict[str, float]
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class Judge:
    """Draws the same `number` of samples from any policy, with the same chance, and judges them."""

    prompts: Prompts
    rows: Sequence[Row] | None
    sampler: Sampler
    rewards: Rewards
    task: Task | None
    number: int
    seed: int
    guidance: Guidance | None = None

    def __call__(self, policy: Denoiser) -> Judged:
        rows = rows_for(self.rows, self.number, 1 if self.guidance is None else self.guidance.together)
        samples = draw_samples(policy, self.sampler, self.prompts, rows, self.seed, guidance=self.guidance)
        scores = scores_of(samples, self.rewards)
        by_name = {name: _mean(column) for name, column in scores.by_name().items()}
        metrics = {} if self.task is None else metrics_of(samples, self.task)
        return Judged(samples, scores.total.nanmean().item(), by_name, metrics)


@dataclass(frozen=True, eq=False)
class Compared:
    """The model before and after, and the path KL between the two in nats per sample (None: paths have none)."""

    before: Judged
    after: Judged
    path_kl: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model as it was when training began, and what was said of it then."""

    judge: Judge
    pretrained: Denoiser
    before: Judged

    @staticmethod
    def begin(judge: Judge, policy: Denoiser) -> Comparison:
        pretrained = separate(policy.on(Frozen.of(policy.network).copied))
        return Comparison(judge, pretrained, judge(pretrained))

    def end(self, policy: Denoiser) -> Compared:
        after = self.judge(separate(policy))
        return Compared(self.before, after, path_kl(after.samples, self.pretrained))


def separate(policy: Denoiser) -> Denoiser:
    """The same policy with a meter of its own: judging is not part of training."""
    return replace(policy, meter=Meter())


def _mean(column: Sequence[float | None]) -> float:
    known = [value for value in column if value is not None]
    return sum(known) / len(known) if known else math.nan


@dataclass(frozen=True)
class WatchedReward(NamedReward):
    """The reward of a task; once per log line it also logs the task's metrics of the samples it is asked about.

    every: optimizer steps between two log lines; span: those that one collection lasts.
    """

    task: Task
    every: int
    span: int

    @property
    def name(self) -> str:
        return reward_name(self.task.reward)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[list[int]],
        trainer_state: Any = None,
        log_metric: Any = None,
        log_extra: Any = None,
        **columns: Any,
    ) -> list[float]:
        logs = {"trainer_state": trainer_state, "log_metric": log_metric, "log_extra": log_extra}
        if trainer_state is not None and self._is_due(trainer_state.global_step):
            for name, value in self.task.metrics(prompts, completions, **columns).items():
                log_metric(name, value)
        return self.task.reward(prompts, completions, completion_ids, **columns, **logs)

    def _is_due(self, step: int) -> bool:
        """Whether a log line follows while this collection lasts."""
        return (step + self.span) // self.every > step // self.every
