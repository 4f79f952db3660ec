"""What the exact tests share: small worlds, chance that is written down instead of drawn, and chi-square."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.worlds import Law, World, markov_chain, random_table, tabular
from sepo.ops import Chance

SMALL = World(letters=3, length=3)
DEEP = World(letters=2, length=4)


def denoisers(world: World) -> dict[str, Denoiser]:
    """Consistent, nearly so, and not at all."""
    law = markov_chain(world, seed=1)
    return {
        "ideal": tabular(world, law),
        "noisy": tabular(world, law, noise=0.5, seed=2),
        "arbitrary": random_table(world, seed=3),
    }


@dataclass(frozen=True, eq=False)
class Written(Chance):
    """Uniform numbers given in advance: `numbers` [batch, *shape], the same at every call."""

    numbers: Tensor = field(default_factory=lambda: torch.zeros(0))

    @staticmethod
    def down(numbers: Tensor) -> Written:
        return Written((), len(numbers), "cpu", numbers.double())

    def uniform(self, *shape: int) -> Tensor:
        assert tuple(self.numbers.shape[1:]) == shape, f"asked for {shape}, written {tuple(self.numbers.shape[1:])}"
        return self.numbers


def at_step(step: int, tokens: Tensor) -> Tensor:
    """The same step for every row."""
    return torch.full((len(tokens),), step)


def deviations(world: World, tokens: Tensor, law: Law) -> float:
    """How many standard deviations the chi-square of these draws lies above its mean under the law."""
    counts = world.index(tokens).bincount(minlength=len(law)).double()
    expected = law.detach() * len(tokens)
    possible = expected > 0
    if counts[~possible].any():
        return float("inf")
    degrees = int(possible.sum()) - 1
    statistic = ((counts - expected)[possible].square() / expected[possible]).sum()
    return float((statistic - degrees) / (2 * degrees) ** 0.5)
