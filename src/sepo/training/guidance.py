"""Guided rollouts: what is drawn for training is led by a reward, as samples are.

Their draws have no density, so they are for algorithms that read none (`Algorithm.any_sampler`). With elite replay this
is expert iteration (Thinking Fast and Slow with Deep Learning and Tree Search, arXiv 1705.08439): the guidance finds
what is better than the policy, and the policy learns to draw it without guidance. Searches around elites and all
evaluation are of the policy by itself, with the sampler inside the guidance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import StatePath
from sepo.rewards import Rewards
from sepo.samplers import Sampler
from sepo.samplers.guided import (
    LEARNED,
    SOFT,
    UNREWARDED,
    ArgmaxFill,
    SampledFill,
    guided,
    is_guided,
    population_size,
)
from sepo.training.prompts import Prompts, as_messages, completion_ids
from sepo.training.rows import Row, columns_of
from sepo.training.value_fitting import load_value
from sepo.typing import Float, Tokens


@dataclass(frozen=True)
class TrainingReward:
    """Stands for the reward of the trainer, of whole rows: `SVDD(inner, TrainingReward(), 4)`."""

    def __call__(self, tokens: Tokens) -> Float[Tensor, " rows"]:
        raise ValueError("TrainingReward() stands for the reward of a trainer: elsewhere, give a function of tokens.")


@dataclass(frozen=True, eq=False)
class OfTokens:
    """A reward as trainers take it, asked about whole rows of a batch, each of them as often as there are tokens."""

    rewards: Rewards
    prompts: Prompts
    rows: Sequence[Row]
    canvas: Canvas

    def __call__(self, tokens: Tokens) -> Float[Tensor, " rows"]:
        times = len(tokens) // len(self.rows)
        rows, canvas = [row for row in self.rows for _ in range(times)], self.canvas.repeat(times)
        ended = StatePath(canvas, tokens.unsqueeze(1), torch.zeros(len(tokens), 1), torch.zeros(*tokens.shape, 0).mT)
        asked = self.prompts.prompts(rows)
        completions = as_messages(asked, self.prompts.completions(ended))
        return self.rewards(asked, completions, completion_ids(ended), columns_of(rows)).total


@dataclass
class Asked:
    """sequences: that rewards were asked about so far, in rollouts, around elites and by a guidance."""

    sequences: int = 0


@dataclass(frozen=True, eq=False)
class Noted:
    """A reward of tokens or soft tokens whose calls are noted, in full precision whatever the network runs in."""

    reward: Any
    asked: Asked

    def __call__(self, sequences: Tensor) -> Any:
        self.asked.sequences += len(sequences)
        with torch.autocast(sequences.device.type, enabled=False):
            return self.reward(sequences)


def led_by(sampler: Any, reward: Any, asked: Asked) -> Any:
    """The guided sampler with `reward` in place of each `TrainingReward`, and all of its rewards noted."""
    found: dict[str, Any] = {}
    for name in (each.name for each in fields(sampler)):
        part = getattr(sampler, name)
        if name == "reward":
            found[name] = Noted(reward if isinstance(part, TrainingReward) else part, asked)
        elif is_guided(part) or isinstance(part, (ArgmaxFill, SampledFill)):
            found[name] = led_by(part, reward, asked)
    return replace(sampler, **found)


def guided_rollouts(name: str, options: Mapping[str, Any], inner: Sampler, process: Process | None = None) -> Sampler:
    """The guidance around `inner`, led by the reward of the trainer. process: that a learned value must fit.

    Raises:
        ValueError: it needs what has no name here: a gradient of the reward, or a second model; or a value that is not
            learned yet, or does not fit.
    """
    if name in SOFT:
        raise ValueError(
            f"rollout_guidance={name!r} follows the gradient of its reward, and reward functions have none: give "
            "sampler=..., the guided sampler itself around a reward of soft tokens; or choose best_of_n, svdd or smc."
        )
    if name in UNREWARDED and isinstance(options.get("unconditional"), str):
        raise ValueError(
            f"rollout_guidance_kwargs: unconditional={options['unconditional']!r} is a name, which `sepo finetune` "
            "opens; here give sampler=ClassifierFree(inner, weight, unconditional), with a Denoiser."
        )
    value = options.get("value")
    if value == LEARNED:
        raise ValueError(
            "rollout_guidance_kwargs: value='learned' would be of a policy that changes as it trains: learn it before, "
            "by `sepo sample --guidance_kwargs.value learned --guidance_kwargs.value_kwargs.folder FOLDER`, and name "
            "the folder."
        )
    if isinstance(value, str):
        options = {**options, "value": load_value(value, process, inner)}
    return guided(name, inner, TrainingReward(), options)


def require_populations(sampler: Sampler | None, group: int) -> None:
    """
    Raises:
        ValueError: groups of so many sequences are no whole populations of the guidance.
    """
    size = population_size(sampler)
    if group % size:
        raise ValueError(
            f"num_generations={group}: the guidance of rollouts draws populations of {size} sequences of one prompt; "
            f"choose a multiple of {size}."
        )
