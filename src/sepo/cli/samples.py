"""Samples of a model: what they are, what they are worth, and what drawing them took."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from sepo.cli.guiding import Effective, Guidance
from sepo.cli.rows import Row
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.process import Absorbing
from sepo.diffusion.rollout import MaskedPath, Rollout, StatePath
from sepo.ops import Chance
from sepo.rewards import Rewards, Scores
from sepo.samplers import Sampler, roll
from sepo.tasks import Task
from sepo.training.prompts import Prompts, as_messages, completion_ids
from sepo.training.rows import columns_of

SAMPLING = 7
"""The purpose of these generators: they share nothing with those of training."""


@dataclass(frozen=True, eq=False)
class Samples:
    """One entry per sample, and the rollouts, batch by batch. `columns` are those of the prompts' rows.

    exact_density: whether the sampler's log-probabilities are those of its paths; share: of the sites that were
    computed in the evaluations, the others were in a cache; reward_calls: sequences that a guidance asked its reward
    about; effective: the sample size of its populations, if it has any.
    """

    prompts: list[Any]
    completions: list[Any]
    ids: list[list[int]]
    columns: dict[str, list[Any]]
    rollouts: list[Rollout]
    evaluations: int
    seconds: float
    exact_density: bool = True
    share: float = 1.0
    reward_calls: int = 0
    effective: Effective | None = None

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def tokens(self) -> Integer[np.ndarray, "sample length"]:
        """The whole sequences, with what was given, and padding where there is any."""
        return torch.cat([rollout.x0 for rollout in self.rollouts]).cpu().numpy()


def spelled(samples: Samples, task: Task | None, number: int | None = None) -> list[Any]:
    """The first completions: texts, or as the task writes them, or tokens."""
    completions = samples.completions[:number]
    if task is None or not all(isinstance(each, np.ndarray) for each in completions):
        return completions
    written = task.spelled(completions)
    return completions if written is None else list(written)


@torch.no_grad()
def draw_samples(
    policy: Denoiser,
    sampler: Sampler,
    prompts: Prompts,
    rows: Sequence[Row],
    seed: int,
    at_once: int = 256,
    guidance: Guidance | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> Samples:
    """One sample for each row. What a row gets depends on the seed and its place, not on `at_once`.

    guidance: around the sampler; rows that it draws as one population stay together. told: is called after each batch
    with how many are done.
    """
    before, started = replace(policy.meter), time.monotonic()
    if guidance is not None:
        at_once = guidance.share_out(len(rows), at_once)
        guidance.open_value(policy, sampler, prompts, rows)
    canvas, asked = prompts.canvas(rows), prompts.prompts(rows)
    completions: list[Any] = []
    ids: list[list[int]] = []
    rollouts: list[Rollout] = []
    for start in range(0, len(rows), at_once):
        part = canvas[start : start + at_once].to(policy.device)
        chance = Chance.seeded(seed, range(start, start + len(part)), 1, policy.device, SAMPLING)
        led = sampler
        if guidance is not None:
            led = guidance.around(sampler, prompts, rows[start : start + at_once], part)
        rollouts.append(roll(led, policy, part, chance))
        completions += prompts.completions(rollouts[-1])
        ids += completion_ids(rollouts[-1])
        told(len(completions))
    spent, took = policy.meter.evaluations - before.evaluations, time.monotonic() - started
    share = (policy.meter.sites - before.sites) / max(spent * canvas.tokens.shape[1], 1)
    said, exact = as_messages(asked, completions), sampler.exact_density and guidance is None
    calls, effective = (0, None) if guidance is None else (guidance.calls, guidance.effective)
    return Samples(asked, said, ids, columns_of(rows), rollouts, spent, took, exact, share, calls, effective)


def rows_for(rows: Sequence[Row] | None, number: int, together: int = 1) -> list[Row]:
    """`number` rows: those of a dataset over and over, each `together` times in a row; or empty ones where there are no
    prompts."""
    if rows is None:
        return [{}] * number
    return list(itertools.islice((row for row in itertools.cycle(rows) for _ in range(together)), number))


def scores_of(samples: Samples, rewards: Rewards) -> Scores:
    return rewards(samples.prompts, samples.completions, samples.ids, samples.columns)


def metrics_of(samples: Samples, task: Task) -> dict[str, float]:
    return task.metrics(samples.prompts, samples.completions, **samples.columns)


@torch.no_grad()
def path_kl(samples: Samples, reference: Denoiser) -> float | None:
    """The mean of log p(path) / p_ref(path) in nats; None where paths have no such probability."""
    ratios: list[Tensor] = []
    for rollout in samples.rollouts:
        if not isinstance(rollout, MaskedPath) or not samples.exact_density:
            return None
        with evaluating(reference.network):
            ratios.append((rollout.log_prob - path_log_prob(reference, rollout)).sum(1))
    return torch.cat(ratios).mean().item()


def frames(samples: Samples, policy: Denoiser, number: int, count: int) -> Integer[np.ndarray, "sample frame length"]:
    """The first samples at `count` moments of their path, from noise to the end, with masks where nothing is yet."""
    rollout = samples.rollouts[0][: min(number, len(samples.rollouts[0]))]
    if isinstance(rollout, MaskedPath) and isinstance(policy.process, Absorbing):
        moments = torch.linspace(0, rollout.steps, count, device=rollout.x0.device).round().long()
        shown = rollout.states(moments.expand(len(rollout), count), policy.process.mask)
        given = ~rollout.canvas.free.unsqueeze(1)
        return torch.where(given, rollout.x0.unsqueeze(1), shown).cpu().numpy()
    if isinstance(rollout, StatePath):
        moments = torch.linspace(0, rollout.states.shape[1] - 1, count, device=rollout.x0.device).round().long()
        return rollout.states[:, moments].cpu().numpy()
    raise ValueError(f"A {type(rollout).__name__} of a {type(policy.process).__name__} process has no states to show.")
