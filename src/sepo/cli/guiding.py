"""Guidance of a command's samples or rollouts: a sampler around the one that was chosen, led by the reward of the
command or by a second model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepo.cli.console import say
from sepo.cli.opening import model_beside
from sepo.cli.rows import Row
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.objectives.algorithm import Algorithm
from sepo.objectives.algorithms import OF_SOFT_REWARDS
from sepo.rewards import Rewards
from sepo.runs import RunFolder, read_config
from sepo.samplers import KernelSampler, Sampler
from sepo.samplers.guided import LEARNED, SMC, SOFT, TDS, UNREWARDED, SoftReward, guidance_options, guided
from sepo.tasks import Task
from sepo.training import SEPOConfig
from sepo.training.drawing import build_algorithm, build_sampler
from sepo.training.guidance import OfTokens
from sepo.training.prompts import Prompts
from sepo.training.value_fitting import ValueFit, fit_value, load_value, save_value

OTHERS = "best_of_n, svdd or smc"


@dataclass(frozen=True, eq=False)
class Opened:
    """The model of a command: how it was named and loaded, and what it is."""

    name: str
    policy: Denoiser
    options: Mapping[str, Any] = field(default_factory=dict)

    def without_condition(self, name: Any) -> Denoiser:
        """The model without the condition, loaded as this one was.

        Raises:
            ValueError: it cannot be loaded, or is of other tokens.
        """
        options = {option: value for option, value in self.options.items() if option != "condition"}
        return model_beside("guidance_kwargs.unconditional", name, self.policy, str(self.policy.device), options)

    @property
    def trained_from(self) -> str | None:
        """The model that its run was priced to, or began with: where it comes from, if the folder says so."""
        try:
            recipe = read_config(RunFolder(Path(self.name)))
        except ValueError:
            return None
        found = recipe.get("reference") or recipe.get("model")
        return found if isinstance(found, str) else None


@dataclass(frozen=True)
class Effective:
    """The effective sample size of populations, in particles: its mean over steps and populations, and the least."""

    mean: float
    least: float
    particles: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} of {self.particles} particles effective on average, {self.least:.1f} at the least"


@dataclass(eq=False)
class Guidance:
    """name, options: of the guidance, with models in place of their names; rewards: any; soft: with a gradient, for
    those that need one.

    hint: a model that `unconditional` may be; calls: sequences that the reward was asked about so far, to learn a value
    too; ess: of each batch of populations, after each step.
    """

    name: str
    options: Mapping[str, Any]
    rewards: Rewards | None = None
    soft: SoftReward | None = None
    hint: str | None = None
    calls: int = field(default=0, init=False)
    ess: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        guidance_options(self.name, self.options)
        if self.together < 1:
            raise ValueError(f"guidance_kwargs: particles={self.together} must be at least 1.")
        if self.name in SOFT and self.soft is None:
            raise _has_no_gradient(f"guidance={self.name!r}", OTHERS)

    @property
    def together(self) -> int:
        """Consecutive rows of the same prompt that are drawn as one population."""
        return int(self.options.get("particles", 1))

    def share_out(self, number: int, at_once: int) -> int:
        """Rows of a batch, at most `at_once` unless a population has more.

        Raises:
            ValueError: the last population would not be whole.
        """
        if number % self.together:
            raise ValueError(
                f"num: {number} samples are no populations of {self.together} particles; ask for a multiple of "
                f"{self.together}, of each prompt."
            )
        return max(at_once // self.together, 1) * self.together

    def open_value(self, policy: Denoiser, inner: Sampler, prompts: Prompts, rows: Sequence[Row]) -> None:
        """A value that was named is learned now, on rollouts of these prompts, or loaded; none: nothing happens.

        Raises:
            ValueError: options of learning it are not known, or it does not fit.
        """
        named = self.options.get("value")
        if not isinstance(named, str):
            return
        value = load_value(named, policy.process, inner) if named != LEARNED else None
        if value is None:
            assert self.rewards is not None and isinstance(inner, KernelSampler)
            how, folder = value_options(self.options.get("value_kwargs") or {})
            rows = [rows[place % len(rows)] for place in range(how.sequences)]
            canvas = prompts.canvas(rows).to(policy.device)
            asked = OfTokens(self.rewards, prompts, rows, canvas)
            value = fit_value(policy, inner, asked, how, canvas, say)
            self.calls += value.fitted.reward_calls
            if folder is not None:
                save_value(value, folder)
        self.options = {name: each for name, each in self.options.items() if name != "value_kwargs"} | {"value": value}

    def around(self, inner: Sampler, prompts: Prompts, rows: Sequence[Row], canvas: Canvas) -> Sampler:
        """The guided sampler of a batch.

        Raises:
            ValueError: there is neither a second model nor a prompt that could be masked in its place.
        """
        if self.name in UNREWARDED:
            if self.options.get("unconditional") is None and not prompts.conditional:
                raise ValueError(self._lacks_a_condition)
            return guided(self.name, inner, None, self.options)
        assert self.rewards is not None
        told: Any = self.soft if self.name in SOFT else OfTokens(self.rewards, prompts, rows, canvas)

        def counted(sequences: Tensor) -> Any:
            self.calls += len(sequences)
            return told(sequences)

        sampler = guided(self.name, inner, counted, self.options)
        if isinstance(sampler, (SMC, TDS)):
            return replace(sampler, told=lambda population: self.ess.append(population.ess))
        return sampler

    @property
    def effective(self) -> Effective | None:
        """Of the populations so far; None: there are none."""
        if not self.ess:
            return None
        sizes = torch.cat([each.flatten() for each in self.ess])
        return Effective(float(sizes.mean()), float(sizes.min()), self.together)

    @property
    def _lacks_a_condition(self) -> str:
        known = f": {self.hint!r} is where this one comes from" if self.hint else ""
        return (
            f"guidance={self.name!r}: guidance_kwargs lacks 'unconditional', and there is no prompt to be masked in "
            "its place; name the model to move away from, such as the one before fine-tuning, with "
            f"--guidance_kwargs.unconditional{known}."
        )


def guidance_for(
    name: str | None,
    options: Mapping[str, Any] | None,
    rewards: Rewards | None,
    task: Task | None,
    model: Opened,
) -> Guidance | None:
    """None without a name. The reward is `rewards`, or None: the task's.

    Raises:
        ValueError: there is no reward to lead a guidance that needs one; the guidance is not known or does not fit.
    """
    if name is None:
        if options:
            raise ValueError(f"guidance_kwargs={dict(options)}: there is no guidance; name one with --guidance.")
        return None
    if name in UNREWARDED:
        chosen = guidance_options(name, options or {})
        other = chosen.get("unconditional")
        found = None if other is None else model.without_condition(other)
        return Guidance(name, {**chosen, "unconditional": found}, hint=model.trained_from)
    if rewards is None and task is None:
        raise ValueError(f"guidance={name!r} has no reward to be led by: name a --reward or a --task.")
    soft = task.soft_reward(model.policy.device) if rewards is None and task is not None else None
    return Guidance(name, options or {}, rewards or Rewards.of([task.reward]), soft)  # type: ignore[union-attr]


def guided_rollouts_for(args: SEPOConfig, task: Task | None, model: Opened) -> Sampler | None:
    """The guided sampler of rollouts, where its reward has a gradient or a second model leads it; None: the names in
    `args` are enough. task: whose reward is trained on.

    Raises:
        ValueError: the reward has no gradient; the second model cannot be loaded, or does not fit.
    """
    given: Any = args.rollout_guidance_kwargs or {}
    name, options, reward = args.rollout_guidance, dict(given), None
    if name in SOFT:
        reward = None if task is None else task.soft_reward(args.device)
        if reward is None:
            raise _has_no_gradient(f"rollout_guidance={name!r}", OTHERS)
    elif name in UNREWARDED and options.get("unconditional") is not None:
        options["unconditional"] = model.without_condition(options["unconditional"])
    else:
        return None
    assert name is not None
    return guided(name, build_sampler(args, model.policy.process), reward, options)


def value_options(options: Mapping[str, Any]) -> tuple[ValueFit, str | None]:
    """How a value is learned, and the folder that it is kept in.

    Raises:
        ValueError: there is no such option.
    """
    known = [each.name for each in fields(ValueFit)]
    if unknown := sorted(options.keys() - {*known, "folder"}):
        raise ValueError(
            f"guidance_kwargs.value_kwargs holds {unknown[0]!r}; its options are {', '.join(known)}, and folder, where "
            "the value is kept."
        )
    folder = options.get("folder")
    return ValueFit(**{name: value for name, value in options.items() if name != "folder"}), folder


def soft_algorithm_for(args: SEPOConfig, task: Task | None) -> Algorithm | None:
    """The algorithm that follows the gradient of the task's reward, where one was named; None: another was.

    Raises:
        ValueError: the reward has no gradient.
    """
    if args.algorithm not in OF_SOFT_REWARDS:
        return None
    soft = None if task is None else task.soft_reward(args.device)
    if soft is None:
        raise _has_no_gradient(f"algorithm={args.algorithm!r}", "another algorithm")
    return build_algorithm(args, soft)


def _has_no_gradient(said: str, others: str) -> ValueError:
    return ValueError(
        f"{said} follows the gradient of its reward, and this one has none: take the task 'measured' with an oracle "
        "that was fitted here, a .ckpt of gReLU, or a class of your own with a method soft(one-hot rows); or "
        f"{others}."
    )
