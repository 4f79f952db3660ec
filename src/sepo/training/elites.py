r"""Elites: the best distinct sequences that a run has seen. They are learned again, and searched around.

    replay   minimise  -coef x (bound on log p of elites, drawn by rank)              beside the loss of the method
    search   two elites are crossed, a stretch is moved, some sites are masked again and filled by the policy

What the search finds is scored and may become an elite; the method itself learns from its own rollouts only, so that
its gradient stays what it is. Learning the best samples again is the cross-entropy method (Rubinstein 1999), and
searching around them with the policy is local search as in Local Search GFlowNets (arXiv 2310.02710).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import Score
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import Views
from sepo.objectives.base import Loss, per_sequence
from sepo.objectives.readings import FreshMasks, FreshNoise
from sepo.objectives.readings.base import Where
from sepo.ops import Chance, draw
from sepo.typing import Float, Int, PerSequence, Sites, Time, Tokens


@dataclass(frozen=True)
class Replay:
    """How elites are kept, learned again and searched around.

    Rewards of different calls are compared, so that they must mean the same in each: no ranks within a batch.

    Args:
        size: elites that are kept.
        coef: weight of the bound on their likelihood in the loss, per sequence; 0: they are searched around only.
        masks: fresh masks per elite and update, one network evaluation each.
        search: further sequences per collection and process, drawn around elites and scored.
        masked: least and largest share of the sites that are masked again, one share per sequence.
        temperature: of the tokens there; 1 is the policy, more explores.
        min_prob: tokens to which the policy gives less, at temperature 1, are not drawn there, so that a high
            temperature does not bring what the model holds for impossible (epsilon sampling, arXiv 2210.15191).
        crossover: chance that a stretch of the sequence is that of another elite; where they meet a site is masked.
        shift: chance that a stretch moves by 1 to `farthest` sites; what it leaves and what it touches is masked too.
        farthest: sites that a stretch moves at most.
        pressure: how much sooner the best are drawn: rank r of n with weight 1 / (r + n / pressure).
    """

    size: int = 64
    coef: float = 1.0
    masks: int = 1
    search: int = 0
    masked: Sequence[float] = (0.03, 0.15)
    temperature: float = 2.0
    min_prob: float = 0.0
    crossover: float = 0.5
    shift: float = 0.0
    farthest: int = 4
    pressure: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("masks", 1), ("farthest", 1), ("search", 0), ("coef", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"replay: {name}={getattr(self, name)} must be at least {least}.")
        if not self.temperature > 0 or not self.pressure > 0:
            raise ValueError(
                f"replay: temperature={self.temperature}, pressure={self.pressure} must be above 0; 1 draws from the "
                "policy itself."
            )
        if not isinstance(self.masked, Sequence) or len(self.masked) != 2:
            raise ValueError(f"replay: masked={self.masked} must be two shares, such as (0.03, 0.15).")
        low, high = self.masked
        if not 0 <= low <= high <= 1 or high == 0:
            raise ValueError(f"replay: masked={self.masked} must be two shares, 0 <= least <= largest <= 1, not 0.")
        if not 0 <= self.min_prob < 0.5:
            raise ValueError(f"replay: min_prob={self.min_prob} must be a small probability, 0 or more, below 0.5.")
        for name in ("crossover", "shift"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"replay: {name}={getattr(self, name)} is a chance; choose 0 to 1.")

    def draw(self, number: int, uniform: PerSequence) -> Int[Tensor, " batch"]:
        """Ranks among `number` elites, one per uniform number."""
        law = 1 / (torch.arange(number, device=uniform.device) + number / self.pressure)
        return draw((law / law.sum()).expand(len(uniform), -1), uniform.to(law))


@dataclass(eq=False)
class Elites:
    """The best distinct sequences of one length, best first, of equals the newest first; at most `size` of them.

    A sequence scored again has its newest reward.
    """

    size: int
    tokens: Tokens = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    reward: PerSequence = field(default_factory=lambda: torch.zeros(0, dtype=torch.double))

    def __len__(self) -> int:
        return len(self.tokens)

    def hear(self, tokens: Tokens, reward: PerSequence) -> None:
        """Rows whose reward is NaN are no candidates."""
        known = ~reward.isnan()
        tokens, reward = tokens[known].cpu(), reward[known].double().cpu()
        if len(self):
            tokens, reward = torch.cat((tokens, self.tokens)), torch.cat((reward, self.reward))
        if not len(tokens):
            return
        number = torch.arange(len(tokens))
        _, kind = tokens.unique(dim=0, return_inverse=True)
        newest = torch.full((int(kind.max()) + 1,), len(tokens)).scatter_reduce(0, kind, number, "amin")
        newest = newest.sort().values
        best = newest[reward[newest].argsort(descending=True, stable=True)[: self.size]]
        self.tokens, self.reward = tokens[best], reward[best]

    def state(self) -> dict[str, Tensor]:
        return {"elites.tokens": self.tokens, "elites.reward": self.reward}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.tokens, self.reward = tensors["elites.tokens"], tensors["elites.reward"]

    def restart(self) -> None:
        self.tokens, self.reward = self.tokens[:0], self.reward[:0]


def around(elites: Elites, how: Replay, free: Sites, chance: Chance) -> Canvas:
    """A canvas per row of `free` [batch length], the sites that may change: what becomes of elites, some sites free.

    At least one site of each is.
    """
    length = free.shape[1]
    drawn = chance.uniform(10 + length)
    parents = elites.tokens.to(free.device)
    first, second = (parents[how.draw(len(parents), drawn[:, column])] for column in (0, 1))
    crossed = _stretch(drawn[:, 2:4], length) & (drawn[:, 4:5] < how.crossover)
    tokens = torch.where(crossed & free, second, first)
    seams = _new_pairs(tokens, first, second)
    tokens, torn = _moved(tokens, _stretch(drawn[:, 5:7], length), free, how, drawn[:, 7:9])
    torn = torn | seams
    low, high = how.masked
    order = drawn[:, 10:].masked_fill(~free, 2.0)
    again = order < low + (high - low) * drawn[:, 9:10]
    again = again | torn | ((order == order.amin(1, keepdim=True)) & ~(torn & free).any(1, keepdim=True))
    return Canvas(tokens, again & free)


def _stretch(uniform: Float[Tensor, "batch 2"], length: int) -> Sites:
    """A random run of sites, from none to all."""
    cuts = (uniform * (length + 1)).long().sort(1).values
    place = torch.arange(length, device=uniform.device)
    return (place >= cuts[:, :1]) & (place < cuts[:, 1:])


def _new_pairs(tokens: Tokens, first: Tokens, second: Tokens) -> Sites:
    """Sites that stand before another one as in neither of two sequences: where a stretch of one meets the other."""

    def as_in(parent: Tensor) -> Tensor:
        return (tokens[:, :-1] == parent[:, :-1]) & (tokens[:, 1:] == parent[:, 1:])

    new = torch.zeros_like(tokens, dtype=torch.bool)
    new[:, :-1] = ~as_in(first) & ~as_in(second)
    return new


def _moved(
    tokens: Tokens, stretch: Sites, free: Sites, how: Replay, uniform: Float[Tensor, "batch 2"]
) -> tuple[Tokens, Sites]:
    """Rows with a stretch moved, by chance `shift`; and the sites that it leaves, or that are beside it now.

    Sites that are not free stay as they are, and nothing comes from them.
    """
    length = tokens.shape[1]
    far = (uniform[:, 1:] * 2 * how.farthest).long() - how.farthest
    far = far + (far >= 0).long()
    source = torch.arange(length, device=tokens.device) - far
    inside = (source >= 0) & (source < length)
    source = source.clamp(0, length - 1)
    lands = stretch.gather(1, source) & free.gather(1, source) & inside & free & (uniform[:, :1] < how.shift)
    left = stretch & ~lands & lands.any(1, keepdim=True)
    beside = torch.zeros_like(lands)
    beside[:, 1:] |= lands[:, :-1]
    beside[:, :-1] |= lands[:, 1:]
    return torch.where(lands, tokens.gather(1, source), tokens), (left | (beside & ~lands)) & free


def learned_again(elites: Elites, how: Replay, free: Sites, process: Process, chance: Chance) -> Views:
    """Views of an elite for each row of `free`, at fresh noise: the bound on its log-probability."""
    ranks = how.draw(len(elites), chance.uniform(1)[:, 0])
    x0 = elites.tokens.to(free.device)[ranks]
    nothing = torch.zeros(free.shape, device=free.device)
    path = MaskedPath(Canvas(x0, free), x0, free.long() - 1, nothing[:, :1] + 1, nothing)
    return reading_of(process, how.masks)(path, process, chance)


def with_replay(loss: Loss, policy: Denoiser, views: Views | None, how: Replay | None) -> Loss:
    """The loss of the method, and `coef` times the bound on the elites in nats per sequence, if there are any."""
    if views is None or how is None:
        return loss
    bound = -per_sequence(views.weight * reading_of(policy.process).read(policy, views).log_prob)
    return Loss(loss.value + how.coef * bound, loss.metrics | {"elites/bound": bound.detach()})


def reading_of(process: Process, masks: int = 1) -> Where:
    """That of the bound on the likelihood."""
    return FreshMasks(masks) if isinstance(process, Absorbing) else FreshNoise(masks)


@dataclass(frozen=True, eq=False)
class Explorer(Denoiser):
    """A denoiser whose posterior is p^(1 / temperature), normalised, over the tokens with p of at least min_prob.

    The likeliest token is never ruled out.
    """

    temperature: float = 1.0
    min_prob: float = 0.0

    def logits(
        self, xt: Tokens, t: Time, attend: Sites | None = None, sites: Int[Tensor, "batch k"] | None = None
    ) -> Float[Tensor, "batch sites vocab"]:
        law = super().logits(xt, t, attend, sites).log_softmax(-1)
        if self.min_prob:
            least = law.amax(-1, keepdim=True).clamp_max(math.log(self.min_prob))
            law = law.masked_fill(law < least, -torch.inf)
        return law / self.temperature


def require_law(policy: Denoiser, how: Replay) -> None:
    """
    Raises:
        ValueError: a search is asked for, and the network's numbers are scores, which are no law of tokens.
    """
    if how.search and isinstance(policy.meaning, Score):
        raise ValueError(
            f"replay: search={how.search} draws at a temperature, and the scores of this network are no law of tokens; "
            "choose search=0."
        )


def explorer(policy: Denoiser, how: Replay) -> Explorer:
    """The policy as it searches."""
    return Explorer(**policy.parts(), temperature=how.temperature, min_prob=how.min_prob)
