"""The Twisted Diffusion Sampler: particles whose steps are classifier-guided, and whose weights make up for it.

(Practical and Asymptotically Exact Conditional Sampling in Diffusion Models, arXiv 2306.17775, algorithm 1.) The twist
is exp(r(x0_hat) / beta) and the steps follow its gradient. Weights hold p / q with q NORMALISED at every site; the
released discrete baseline (DRAKES, arXiv 2410.13643) leaves the normalisers out, and then its law does not come nearer
to p exp(r / beta) / Z however many particles there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.ops import Chance
from sepo.samplers.base import KernelSampler, Move, Steps
from sepo.samplers.guided.hearing import require_kernel
from sepo.samplers.guided.population import Look, Population, one_each, populate
from sepo.samplers.guided.scoring import SoftReward, score
from sepo.samplers.guided.smc import require_population
from sepo.samplers.guided.tilting import Tilt
from sepo.typing import Tokens


@dataclass(frozen=True)
class TDS:
    """As `SMC`, with a reward of soft tokens. gamma: of the guidance, None: 1 / beta; through_network: see `Tilt`."""

    inner: KernelSampler
    reward: SoftReward
    beta: float
    particles: int
    gamma: float | None = None
    threshold: float = 0.5
    through_network: bool = True
    told: Callable[[Population], None] | None = None
    exact_density = False

    def __post_init__(self) -> None:
        require_kernel(self.inner, "TDS")
        require_population("TDS", self.beta, self.particles, self.threshold)

    @property
    def revisits(self) -> bool:
        return self.inner.revisits

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        found = self.population(policy, canvas, chance)
        if self.told is not None:
            self.told(found)
        yield from one_each(found, chance, self.particles).moves()

    @torch.no_grad()
    def population(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Population:
        """The weighted particles before one sample each is drawn. One evaluation per particle and step."""
        gamma = 1 / self.beta if self.gamma is None else self.gamma
        tilt = Tilt(self.reward, gamma, self.through_network)

        def ahead(x: Tokens, step: Steps) -> Look:
            found = tilt(self.inner, policy, x, step, canvas.attend, canvas.free)
            return Look(found.law, found.tilted, found.value / self.beta, found.t)

        def end(x: Tokens) -> torch.Tensor:
            hot = torch.nn.functional.one_hot(x, policy.process.size).to(torch.get_default_dtype())
            return score(self.reward, hot) / self.beta

        with evaluating(policy.network):
            return populate(self.inner, policy, canvas, chance, ahead, end, self.particles, self.threshold)
