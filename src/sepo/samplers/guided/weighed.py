"""A sampler of populations that leaves behind how uneven their weights were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance
from sepo.samplers.base import Move
from sepo.samplers.guided.population import one_each
from sepo.samplers.guided.smc import SMC
from sepo.samplers.guided.tds import TDS


@dataclass(frozen=True, eq=False)
class Weighed:
    """The same samples as those of `inner`. sizes: effective particles, [row steps] of each batch so far."""

    inner: SMC | TDS
    sizes: list[Tensor] = field(default_factory=list)
    exact_density = False

    @property
    def revisits(self) -> bool:
        return self.inner.revisits

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        population = self.inner.population(policy, canvas, chance)
        self.sizes.append(population.ess)
        yield from one_each(population, chance, self.inner.particles).moves()


def mean_size(sizes: list[Tensor]) -> float:
    """Effective particles of a population, the mean over populations and steps."""
    return float(torch.cat(sizes).double().mean())
