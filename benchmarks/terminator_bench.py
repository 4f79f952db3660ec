"""What every method of the terminator benchmark shares: the generator, the reward with its memory, and the costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from terminator_conditional import Conditional, conditional
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.models import load
from sepo.ops import Chance
from sepo.samplers import Sampler, roll
from sepo.tasks import Measured

STEPS = 32
"""Network evaluations of a rollout."""
DESIGNS = 256
AT_ONCE = 64
GUIDED = 64
"""Designs of a method that is guided at inference; calls and evaluations are of these."""


@dataclass
class Outcome:
    """designs, scored: letters [number length]; calls: sequences rewarded; evaluations: of the network, to train and to
    draw one set of designs; seconds: of the CPU, of what an earlier cell made for all seeds."""

    designs: np.ndarray
    scored: np.ndarray
    calls: int
    evaluations: int
    seconds: float = 0.0


Method = Callable[["Bench", int], Outcome]


@dataclass
class Bench:
    """folder: of the generator."""

    folder: Path
    task: Measured
    scored: list[Tensor] = field(default_factory=list)

    @cached_property
    def oracle(self) -> Any:
        """The reward's, fitted here: it takes soft tokens too."""
        return self.task.oracle("reward")

    def without_doubt(self) -> Bench:
        """With the mean of the reward's ensemble alone, without taking off where its members disagree."""
        return Bench(self.folder, replace(self.task, doubt=0.0))

    def generator(self) -> Denoiser:
        return load(self.folder)

    def marks(self, oracles: str) -> dict[str, str]:
        """What tells the generator and the oracles, `reward` or `*`, from any others."""
        base = self.folder.parent
        files = [self.folder / "model.safetensors", *sorted(base.glob(f"oracles/{oracles}/**/*.safetensors"))]
        return {str(path.relative_to(base)): sha256(path.read_bytes()).hexdigest() for path in files}

    def conditional(self) -> Conditional:
        """Beside the generator, and made from it once."""
        return conditional(self.folder, self.task, self.folder.parent / "conditional")

    def reward(self, tokens: Tensor) -> Tensor:
        """The reward's oracle, with a memory of what it was asked."""
        self.scored.append(tokens.clone())
        return self.oracle(tokens)

    def soft_reward(self, mixture: Tensor) -> Tensor:
        self.scored.append(mixture.detach()[..., :-1].argmax(-1))
        return self.oracle.soft(mixture[..., :-1])

    def asked(self) -> Tensor:
        """All that was scored since the last time."""
        found = torch.cat(self.scored) if self.scored else torch.zeros(0, self.task.measured.length, dtype=torch.long)
        self.scored = []
        return found


def drawn(policy: Denoiser, sampler: Sampler, number: int, seed: int, at_once: int = AT_ONCE) -> Tensor:
    parts = []
    for start in range(0, number, at_once):
        count = min(at_once, number - start)
        chance = Chance.seeded(1_000_000 + seed, [start], count, policy.device)
        canvas = Canvas.blank(count, policy.length or 0)
        parts.append(roll(sampler, policy, canvas, chance).x0)
    return torch.cat(parts)


def outcome(bench: Bench, designs: Tensor, evaluations: int) -> Outcome:
    scored = bench.asked()
    return Outcome(designs.numpy().astype(np.int8), scored.numpy().astype(np.int8), len(scored), evaluations)
