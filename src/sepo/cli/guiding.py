"""Guidance of a command's samples: a sampler around the one that was chosen, led by the reward of the command or by a
second model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepo.cli.opening import model_beside
from sepo.cli.rows import Row
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.rollout import StatePath
from sepo.oracles import Ensemble, LightningOracle, SoftOracle
from sepo.rewards import Rewards
from sepo.runs import RunFolder, read_config
from sepo.samplers import Sampler
from sepo.samplers.guided import (
    ANY_INNER,
    SMC,
    SOFT,
    TDS,
    UNREWARDED,
    SoftReward,
    guidance_options,
    guided,
)
from sepo.samplers.guided.weighed import Weighed, mean_size
from sepo.tasks import Measured, Task
from sepo.training.prompts import Prompts, as_messages, completion_ids
from sepo.training.rows import columns_of
from sepo.typing import Float, Tokens


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


@dataclass(eq=False)
class Guidance:
    """name, options: of the guidance, with models in place of their names; rewards: any; soft: with a gradient, for
    those that need one.

    hint: a model that `unconditional` may be; calls: sequences that the reward was asked about so far; sizes: effective
    particles of the populations so far.
    """

    name: str
    options: Mapping[str, Any]
    rewards: Rewards | None = None
    soft: SoftReward | None = None
    hint: str | None = None
    calls: int = field(default=0, init=False)
    sizes: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        guidance_options(self.name, self.options)
        if self.together < 1:
            raise ValueError(f"guidance_kwargs: particles={self.together} must be at least 1.")
        if self.name in SOFT and self.soft is None:
            raise ValueError(
                f"guidance={self.name!r} follows the gradient of its reward, and this one has none: take the task "
                "'measured' with an oracle that was fitted here, a .ckpt of gReLU, or a class of your own with a "
                "method soft(one-hot rows); or best_of_n, svdd or smc."
            )

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

        led = guided(self.name, inner, counted, self.options)
        return Weighed(led, self.sizes) if isinstance(led, (SMC, TDS)) else led

    @property
    def effective_particles(self) -> float | None:
        """The mean over the populations and their steps; None: there are none."""
        return mean_size(self.sizes) if self.sizes else None

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
    soft = soft_reward_of(task, model.policy.device) if rewards is None else None
    return Guidance(name, options or {}, rewards or Rewards.of([task.reward]), soft)  # type: ignore[union-attr]


def needs_kernel(name: str | None, options: Mapping[str, Any] | None = None) -> bool:
    """Whether the guidance is around samplers with a kernel alone, or around them at its best: prompts at different
    places can be masked where all rows are read at every step."""
    masks_prompts = name in UNREWARDED and (options or {}).get("unconditional") is None
    return name is not None and (name not in ANY_INNER or masks_prompts)


def soft_reward_of(task: Task | None, device: torch.device) -> SoftReward | None:
    """Of shares of letters, the mask's last; None where the task's reward has no gradient."""
    if not isinstance(task, Measured):
        return None
    oracle, letters = task.oracle("reward"), len(task.measured.alphabet.letters)
    if isinstance(oracle, (Ensemble, LightningOracle)):
        oracle = oracle.to(device)
    if not isinstance(oracle, SoftOracle):
        return None
    soft = oracle.soft
    return lambda shares: soft(shares[..., :letters])
