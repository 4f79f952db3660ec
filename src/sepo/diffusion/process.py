r"""Forward processes: a token is kept with probability alpha(t), else redrawn from a limit law pi.

    q(x_t = y | x_0 = v) = alpha 1[y = v] + (1 - alpha) pi(y)

Everything else is Bayes' rule. With the posterior p(v) = p(x0_i = v | x_t), L(v) = q(x_t | v) and
C = sum_v p(v) / L(v):

    concrete score   s(y) = q_t(y) / q_t(x_t) = alpha p(y) / L(y) + (1 - alpha) pi(y) C,   and C = sum_y s(y)
    posterior        p(y) = L(y) (s(y) - (1 - alpha) pi(y) C) / alpha
    reverse kernel   q(x_s = y | x_t) = q(x_t | x_s = y) (alpha_s p(y) / L(y) + (1 - alpha_s) pi(y) C)

(Structured Denoising Diffusion Models in Discrete State-Spaces, arXiv 2107.03006, eq. 3; Discrete Diffusion Modeling by
Estimating the Ratios of the Data Distribution, arXiv 2310.16834, eq. 5-6, 13.) `Absorbing` has pi = the mask, `Uniform`
pi = 1 / size. Absorbing overrides what has a cheaper form for large vocabularies; tests hold both against matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sepo.diffusion.schedule import LogLinear, Schedule
from sepo.ops import Chance, draw, pick
from sepo.typing import LogProbs, PerSequence, Sites, Time, Tokens

Probabilities = LogProbs
PerSite = Float[Tensor, "batch length"]


@dataclass(frozen=True)
class Process(ABC):
    """A schedule and a limit law over `size` token ids (what the network embeds and what it outputs)."""

    size: int
    schedule: Schedule = field(default=LogLinear(), kw_only=True)

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ValueError(f"size={self.size}: a process needs at least two token ids, the mask included.")

    @abstractmethod
    def limit(self, tokens: Tokens) -> PerSite:
        """pi at the given tokens."""

    @abstractmethod
    def limit_law(self, device: torch.device) -> Float[Tensor, " vocab"]:
        """pi over all token ids."""

    @abstractmethod
    def redraw(self, uniform: PerSite) -> Tokens:
        """Draws from pi."""

    @abstractmethod
    def carry_over(self, log_posterior: LogProbs, xt: Tokens, in_place: bool = False) -> LogProbs:
        """What x_t itself says about x0, imposed on a posterior, or on logits of one.

        in_place: nobody else holds the tensor, and it may be written to.
        """

    def noise(self, tokens: Tokens, free: Sites, chance: Chance) -> Tokens:
        """The start of a sampler: free sites drawn from pi, the others as given."""
        return torch.where(free, self.redraw(chance.uniform(tokens.shape[1])), tokens)

    def corrupt(self, x0: Tokens, t: Time, free: Sites, chance: Chance) -> Tokens:
        """x_t ~ q(. | x0); sites that are not free keep their token."""
        drawn = chance.uniform(2, x0.shape[1])
        redrawn = free & (drawn[:, 0] >= _column(self.schedule.alpha(t)))
        return torch.where(redrawn, self.redraw(drawn[:, 1]), x0)

    def given_start(self, x0: Tokens, kept: PerSequence) -> Probabilities:
        """q(x_t = . | x0) when a token is kept with probability `kept`: a law over y."""
        law = (1 - _column(kept)).unsqueeze(-1) * self.limit_law(x0.device).expand(*x0.shape, -1)
        return law.scatter_add(-1, x0.unsqueeze(-1), _column(kept).expand(x0.shape).unsqueeze(-1).to(law.dtype))

    def given_end(self, xt: Tokens, kept: PerSequence) -> Probabilities:
        """q(xt | x0 = .) as a function of x0: a likelihood, not a law."""
        likelihood = ((1 - _column(kept)) * self.limit(xt)).unsqueeze(-1).expand(*xt.shape, self.size)
        return likelihood.scatter_add(-1, xt.unsqueeze(-1), _column(kept).expand(xt.shape).unsqueeze(-1))

    def log_score(self, log_posterior: LogProbs, xt: Tokens, t: Time) -> LogProbs:
        """log s(x_t, t)_y for every y one site away; 0 at y = x_t."""
        alpha = self.schedule.alpha(t)
        ratio, total = self._bayes(log_posterior, xt, alpha)
        noise = (1 - _column(alpha)).unsqueeze(-1) * self.limit_law(xt.device) * total
        score = _column(alpha).unsqueeze(-1) * ratio + noise
        return score.log().scatter(-1, xt.unsqueeze(-1), 0.0)

    def posterior(self, log_score: LogProbs, xt: Tokens, t: Time) -> Probabilities:
        """p(x0 = . | x_t) from a score: the inverse of `log_score` wherever L > 0."""
        alpha = self.schedule.alpha(t)
        score = log_score.exp()
        noise = (1 - _column(alpha)).unsqueeze(-1) * self.limit_law(xt.device) * score.sum(-1, keepdim=True)
        return self.given_end(xt, alpha) * (score - noise) / _column(alpha).unsqueeze(-1)

    def reverse(self, log_posterior: LogProbs, xt: Tokens, t: Time, s: Time) -> Probabilities:
        """q(x_s = . | x_t) for s < t, the posterior plugged in site by site."""
        alpha_t, alpha_s = self.schedule.alpha(t), self.schedule.alpha(s)
        ratio, total = self._bayes(log_posterior, xt, alpha_t)
        noise = (1 - _column(alpha_s)).unsqueeze(-1) * self.limit_law(xt.device) * total
        return self.given_end(xt, alpha_t / alpha_s) * (_column(alpha_s).unsqueeze(-1) * ratio + noise)

    def step(self, log_posterior: LogProbs, xt: Tokens, t: Time, s: Time, chance: Chance) -> Tokens:
        """x_s ~ q(. | x_t)."""
        return draw(self.reverse(log_posterior, xt, t, s), chance.uniform(xt.shape[1]))

    def score_entropy(self, log_score: LogProbs, xt: Tokens, x0: Tokens, t: Time) -> PerSite:
        r"""The integrand of the bound on -log p(x0), per site, in nats per unit of time (arXiv 2310.16834, eq. 9-10).

        rate(t) pi(x_t) sum_{y != x_t} [ s_y - r_y log s_y + r_y (log r_y - 1) ],  r_y = q(y | x0) / q(x_t | x0).
        """
        alpha = self.schedule.alpha(t)
        law = self.given_start(x0, alpha)
        ratio = law / pick(law, xt).unsqueeze(-1)
        log_ratio = ratio.log()
        excess = log_score.exp() + torch.where(ratio > 0, ratio * (log_ratio - 1 - log_score), 0.0)
        excess = excess.scatter(-1, xt.unsqueeze(-1), 0.0)
        weight = _column(self.schedule.rate(t)) * self.limit(xt)
        return torch.where(weight > 0, weight * excess.sum(-1), 0.0)

    def _bayes(self, log_posterior: LogProbs, xt: Tokens, alpha: PerSequence) -> tuple[Probabilities, Tensor]:
        """p(v) / L(v) for every v, and its sum C."""
        probability = log_posterior.exp()
        likelihood = self.given_end(xt, alpha)
        ratio = torch.where(probability > 0, probability / likelihood, 0.0)
        return ratio, ratio.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Uniform(Process):
    """pi = 1 / size: a token is redrawn from all ids."""

    def limit(self, tokens: Tokens) -> PerSite:
        return torch.full(tokens.shape, 1 / self.size, device=tokens.device)

    def limit_law(self, device: torch.device) -> Float[Tensor, " vocab"]:
        return torch.full((self.size,), 1 / self.size, device=device)

    def redraw(self, uniform: PerSite) -> Tokens:
        return (uniform * self.size).long().clamp_max(self.size - 1)

    def carry_over(self, log_posterior: LogProbs, xt: Tokens, in_place: bool = False) -> LogProbs:
        return log_posterior


@dataclass(frozen=True)
class Absorbing(Process):
    """pi = the mask: a token is kept or masked, and a masked one says nothing about x0."""

    mask: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mask < self.size:
            raise ValueError(
                f"mask={self.mask}: the mask id must be one of the {self.size} ids of the process "
                f"(0 to {self.size - 1}); size counts the mask."
            )

    def limit(self, tokens: Tokens) -> PerSite:
        return (tokens == self.mask).float()

    def limit_law(self, device: torch.device) -> Float[Tensor, " vocab"]:
        return torch.zeros(self.size, device=device).index_fill(0, torch.tensor([self.mask], device=device), 1.0)

    def redraw(self, uniform: PerSite) -> Tokens:
        return torch.full(uniform.shape, self.mask, device=uniform.device)

    def carry_over(self, log_posterior: LogProbs, xt: Tokens, in_place: bool = False) -> LogProbs:
        """A site that is not masked is known: one-hot at its token (SUBS, arXiv 2406.07524, section 3.2.3)."""
        known, here = (xt != self.mask).unsqueeze(-1), xt.unsqueeze(-1)
        row, site = (torch.arange(count, device=xt.device) for count in xt.shape)
        own = log_posterior[row.unsqueeze(1), site, xt].unsqueeze(
            -1
        )  # gather would keep the whole tensor for its slope
        certain = own.masked_fill(known, 0.0)
        filled = log_posterior.masked_fill_ if in_place else log_posterior.masked_fill
        return filled(known, -torch.inf).scatter_(-1, here, certain)

    def reveal_probability(self, t: Time, s: Time) -> PerSequence:
        """(alpha_s - alpha_t) / (1 - alpha_t): the chance that a mask at t is a token at s, whatever the network."""
        alpha_t, alpha_s = self.schedule.alpha(t), self.schedule.alpha(s)
        return (alpha_s - alpha_t) / (1 - alpha_t)

    def log_score(self, log_posterior: LogProbs, xt: Tokens, t: Time) -> LogProbs:
        """At a mask log p - log expm1(sigma); elsewhere only the way back to the mask is open (its value: SUBS)."""
        log_odds = -_column(self.schedule.sigma(t).expm1().log()).unsqueeze(-1)
        ids = torch.arange(self.size, device=xt.device)
        here, masked = ids == xt.unsqueeze(-1), (xt == self.mask).unsqueeze(-1)
        away = torch.where(ids == self.mask, -log_odds, -torch.inf)
        return torch.where(masked, log_posterior + log_odds, away).masked_fill(here, 0.0)

    def step(self, log_posterior: LogProbs, xt: Tokens, t: Time, s: Time, chance: Chance) -> Tokens:
        """Bernoulli "revealed?" first, then the token: float32 cannot hold both in one draw over a large vocabulary."""
        drawn = chance.uniform(2, xt.shape[1])
        revealed = (xt == self.mask) & (drawn[:, 0] < _column(self.reveal_probability(t, s)))
        return torch.where(revealed, draw(log_posterior.exp(), drawn[:, 1]), xt)

    def score_entropy(self, log_score: LogProbs, xt: Tokens, x0: Tokens, t: Time) -> PerSite:
        """At a mask only y = x0 has r > 0, with r = alpha / (1 - alpha)."""
        r = _column(1 / self.schedule.sigma(t).expm1())
        others = log_score.exp().scatter(-1, torch.full_like(xt, self.mask).unsqueeze(-1), 0.0).sum(-1)
        excess = others + r * (r.log() - 1 - pick(log_score, x0))
        masked = xt == self.mask
        return torch.where(masked, _column(self.schedule.rate(t)) * excess.masked_fill(~masked, 0.0), 0.0)


PROCESSES: dict[str, type[Process]] = {"absorbing": Absorbing, "uniform": Uniform}


def _column(values: PerSequence) -> Float[Tensor, "batch 1"]:
    return values.unsqueeze(-1)
