r"""What a state on the way is worth: estimates of the soft value beta log E[exp(r(x0) / beta) | x_t].

    argmax fill     r(the likeliest token of each site)                     SVDD-PM, SMC (arXiv 2408.08252, 2306.17775)
    sampled fill    beta log mean_j exp(r(x0_j) / beta), x0_j ~ prod_i p(x0_i | x_t)
    learned         any function of the state                               SVDD-MC

Particles are exact with each of them as their number grows; the better the value, the fewer they need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sepo.ops import Chance, draw
from sepo.record import Record
from sepo.samplers.base import Steps
from sepo.samplers.guided.scoring import TokenReward, score
from sepo.typing import Float, LogProbs, Sites, Tokens


@dataclass(frozen=True, eq=False)
class Standing(Record):
    """x: tokens after `step` steps of the inner sampler; log_posterior: log p(x0_i | x), for values that read it."""

    x: Tokens
    step: Steps
    free: Sites
    log_posterior: LogProbs | None


@runtime_checkable
class Value(Protocol):
    @property
    def reads_posterior(self) -> bool:
        """Whether the network has to be evaluated at a state before its value is known."""
        ...

    def __call__(self, standing: Standing, chance: Chance) -> Float[Tensor, " batch"]: ...


@dataclass(frozen=True)
class ArgmaxFill:
    """The reward of the likeliest token at each site; one call of the reward per state."""

    reward: TokenReward
    reads_posterior = True

    def __call__(self, standing: Standing, chance: Chance) -> Float[Tensor, " batch"]:
        assert standing.log_posterior is not None
        return score(self.reward, torch.where(standing.free, standing.log_posterior.argmax(-1), standing.x))


@dataclass(frozen=True)
class SampledFill:
    """The soft mean of the reward over fills that draw each site on its own; `draws` calls of the reward per state."""

    reward: TokenReward
    beta: float
    draws: int = 1
    reads_posterior = True

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.draws < 1:
            raise ValueError(f"SampledFill(beta={self.beta}, draws={self.draws}): needs beta above 0 and 1 draw.")

    def __call__(self, standing: Standing, chance: Chance) -> Float[Tensor, " batch"]:
        assert standing.log_posterior is not None
        law = standing.log_posterior.exp()
        found = []
        for _ in range(self.draws):
            drawn = draw(law, chance.uniform(standing.x.shape[1]))
            found.append(score(self.reward, torch.where(standing.free, drawn, standing.x)))
        return self.beta * ((torch.stack(found) / self.beta).logsumexp(0) - math.log(self.draws))


@dataclass(frozen=True)
class Learned:
    """value(tokens [batch length], steps done [batch]) -> [batch], such as a network that was fitted to soft values."""

    value: Callable[[Tokens, Steps], Any]
    reads_posterior = False

    def __call__(self, standing: Standing, chance: Chance) -> Float[Tensor, " batch"]:
        return score(lambda x: self.value(x, standing.step), standing.x)
