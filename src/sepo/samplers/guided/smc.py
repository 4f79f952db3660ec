"""Sequential Monte Carlo: particles take the inner sampler's steps and survive by what they are worth.

Their law is p exp(r / beta) / Z as their number grows, p being the law of the inner sampler. The released baseline
(DRAKES, arXiv 2410.13643) resamples multinomially at every step over the whole batch; here populations are those of a
prompt, and are drawn anew only where their weights have become uneven (`population.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.ops import Chance
from sepo.samplers.base import KernelSampler, Move, Steps
from sepo.samplers.guided.hearing import hear, require_kernel
from sepo.samplers.guided.population import Look, Population, one_each, populate
from sepo.samplers.guided.scoring import TokenReward, score
from sepo.samplers.guided.values import ArgmaxFill, Standing, Value
from sepo.typing import LogProbs, Tokens

Proposal = Callable[[Tokens, Steps, LogProbs], LogProbs]
"""proposal(xt, step, law of the inner sampler) -> the law to draw from, normalised and above 0 wherever that is."""


@dataclass(frozen=True)
class SMC:
    """Each `particles` rows of the canvas are the population of one prompt, and as many samples come out.

    beta: reward per nat; value: of states on the way, None: `ArgmaxFill`; proposal: None: the inner step itself;
    threshold: the effective share of particles below which they are drawn anew, 0: never before the end; told: hears
    of every population, such as its effective size. Samples of one group are not independent. Moves hold the inner
    sampler's log-probabilities along each sample's own line.
    """

    inner: KernelSampler
    reward: TokenReward
    beta: float
    particles: int
    value: Value | None = None
    proposal: Proposal | None = None
    threshold: float = 0.5
    told: Callable[[Population], None] | None = None
    exact_density = False

    def __post_init__(self) -> None:
        require_kernel(self.inner, "SMC")
        require_population("SMC", self.beta, self.particles, self.threshold)

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
        value = self.value or ArgmaxFill(self.reward)

        def ahead(x: Tokens, step: Steps) -> Look:
            heard = hear(self.inner, policy, x, step, canvas.attend)
            worth = torch.zeros(len(x), dtype=torch.double, device=x.device)
            if int(step[0]):  # at the start all are worth the same, or as good as
                worth = value(Standing(x, step, canvas.free, heard.log_posterior), chance)
            proposal = heard.law if self.proposal is None else self.proposal(x, step, heard.law)
            return Look(heard.law, proposal, worth / self.beta, heard.t)

        def end(x: Tokens) -> torch.Tensor:
            return score(self.reward, x) / self.beta

        with evaluating(policy.network):
            return populate(self.inner, policy, canvas, chance, ahead, end, self.particles, self.threshold)


def require_population(name: str, beta: float, particles: int, threshold: float) -> None:
    if beta <= 0 or particles < 1 or not 0 <= threshold <= 1:
        raise ValueError(
            f"{name}(beta={beta}, particles={particles}, threshold={threshold}): needs beta above 0, at least 1 "
            "particle, and a threshold from 0 to 1."
        )
