r"""Confidence decoding: at each state the network's own certainty says which masks are filled next.

With p the posterior of a masked site, neither tempered nor cut, or (`confidence="tempered"`, as Dream's own code) the
law that the token is drawn from, after temperature and top_p, the sites come first at which

    entropy          - sum_v p_v log p_v is least                  Dream's entropy
    margin           the two likeliest tokens differ most          Dream's topk_margin
    max_prob         the likeliest token is most probable
    low_confidence   the token that was drawn is most probable     LLaDA's low_confidence, Dream's maskgit_plus

(Large Language Diffusion Models, arXiv 2502.09992, algorithm 5; Dream 7B, arXiv 2508.15487.) Numbers of sites are each
row's own, where Dream takes the mean over the batch.

The first three rules look at the state alone: the sites follow from it, so that p(path) = prod p(token | state), which
is what is recorded, and an exact denoiser filled site by site gives the data. The choice depends on the weights too,
but in steps: its derivative is zero wherever no two sites tie, and a policy gradient has no term for it. Along the path
it is therefore that of E[R] at almost all weights; the jumps of E[R] where an order changes are seen by no gradient.
Another policy that rates the path rates the tokens in the order recorded, whatever order it would have taken.

low_confidence looks at the draws: what it keeps is likelier than the posterior says, even of an exact denoiser (at
temperature 1 and one site per step .35 to .55 in total variation on small chains), and the density of its path is a sum
over all draws that were dropped. What is recorded is the law that each token was drawn from, before it was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, draw, entropy, pick, rows
from sepo.samplers.base import Move, start
from sepo.samplers.caching import KEEP, BlockCache
from sepo.samplers.filling import require_absorbing
from sepo.samplers.gumbel import gumbel
from sepo.typing import Bool, Float, Int

Laws = Float[Tensor, "rows sites vocab"]
"""Log-probabilities over the vocabulary at some sites of some rows."""

PerSite = Float[Tensor, "rows sites"]


def margin(law: Laws) -> PerSite:
    """The difference in probability between the two likeliest tokens."""
    first, second = law.topk(2, dim=-1).values.exp().unbind(-1)
    return first - second


OF_STATE: dict[str, Callable[[Laws], PerSite]] = {
    "entropy": lambda law: -entropy(law),
    "margin": margin,
    "max_prob": lambda law: law.amax(-1).exp(),
}
"""Rules that look at the state alone: the confidence in a site, from its log-probabilities."""

RULES = (*OF_STATE, "low_confidence")
LOOKED_AT = ("posterior", "tempered")
"""What a rule looks at: what the network says, as LLaDA's code does, or what is drawn from, as Dream's does."""


@dataclass(frozen=True)
class Confidence:
    """All free sites, the most certain first; ties go to the left.

    steps: None: one site per step; fewer fill several sites together, in even numbers. block_length: free sites of a
    row that are done before the next ones are looked at, from left to right; the steps are shared out among these
    blocks. temperature, top_p: of the tokens, temperature 0 takes the likeliest. rule_temperature: above 0 the sites
    are drawn from softmax(confidence / rule_temperature) without replacement (Dream's alg_temp). confidence: what the
    rule looks at, "posterior" or "tempered"; at temperature 0 the latter is cut by top_p and not tempered.

    cache: "prefix" or "block" computes less in all but the first evaluation of a block, and approximately
    (`sepo.samplers.caching`); refresh: evaluations after which all is computed anew, None: at the next block.
    """

    steps: int | None = None
    rule: str = "entropy"
    block_length: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    rule_temperature: float = 0.0
    confidence: str = "posterior"
    cache: str | None = None
    refresh: int | None = None
    revisits = False
    ordered = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"Confidence(steps={self.steps}): needs at least 1 step, or None for one site per step.")
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r}: choose one of {', '.join(RULES)}.")
        if self.block_length is not None and self.block_length < 1:
            raise ValueError(
                f"block_length={self.block_length}: needs at least 1 site, or None for all sites in one block."
            )
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature={self.temperature}: must be 0 or more; 1 draws from the posterior, 0 takes the likeliest."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must be above 0 and at most 1; 1 leaves every token.")
        if not 0 <= self.rule_temperature < float("inf"):
            raise ValueError(
                f"rule_temperature={self.rule_temperature}: must be 0 or more; 0 takes the most certain sites."
            )
        if self.confidence not in LOOKED_AT:
            raise ValueError(f"confidence={self.confidence!r}: choose one of {', '.join(LOOKED_AT)}.")
        if self.cache is not None and self.cache not in KEEP:
            raise ValueError(f"cache={self.cache!r}: choose one of {', '.join(KEEP)}, or None for exact laws.")
        if self.refresh is not None and (self.refresh < 1 or self.cache is None):
            raise ValueError(
                f"refresh={self.refresh}, cache={self.cache}: a cache is computed anew after 1 evaluation or more; "
                "None: at each new block."
            )

    @property
    def exact_density(self) -> bool:
        """Whether sites follow from the state, and tokens from the posterior itself."""
        of_state = self.rule in OF_STATE and self.rule_temperature == 0 and self.cache is None
        return of_state and self.temperature == 1 and self.top_p == 1

    @property
    def exact(self) -> Confidence:
        """The same without a cache."""
        return replace(self, cache=None, refresh=None)

    def schedule(self, free: int) -> list[tuple[int, int, int]]:
        """(block, masks in it, how many of them are filled) at each step of a row with so many free sites.

        Raises:
            ValueError: there are fewer steps than blocks.
        """
        length = self.block_length or free
        sizes = [min(length, free - first) for first in range(0, free, length)]
        if self.steps is not None and self.steps < len(sizes):
            raise ValueError(
                f"steps={self.steps}, block_length={self.block_length}: {free} free sites make {len(sizes)} blocks, "
                "each of which takes a step; give at least as many steps, or longer blocks."
            )
        shares = sizes if self.steps is None else _evenly(self.steps, len(sizes))
        planned = []
        for block, (size, steps) in enumerate(zip(sizes, shares, strict=True)):
            left = size
            for count in _evenly(size, min(steps, size)):
                planned.append((block, left, count))
                left -= count
        return planned

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        process, device = require_absorbing(policy, "Confidence"), canvas.tokens.device
        block, left, count = self._plan(canvas)
        masked = (count.flip(1).cumsum(1).flip(1) / count.sum(1, keepdim=True)).to(device)
        times = process.schedule.time(1 - masked * (1 - process.schedule.alpha(torch.ones((), device=device))))
        blocks = _blocks(canvas, self.block_length)
        cache = None if self.cache is None else BlockCache.of(policy, canvas, blocks, self.cache, self.refresh)
        move = start(policy, canvas, chance)
        yield move
        for step in range(count.shape[1]):
            drawn = chance.uniform(2, canvas.tokens.shape[1])
            active = (count[:, step] > 0).nonzero().squeeze(1)
            most, number = int(left[active, step].max()), count[active, step]
            here = active.to(device)
            x, t = move.x[here], times[:, step].clamp(0.0, 1.0).to(move.t.dtype)
            waiting = (x == process.mask) & (blocks[here] == block[active, step, None].to(device))
            sites = waiting.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
            attend = None if canvas.attend is None else canvas.attend[here]
            if cache is None:
                law = policy.log_posterior(x, t[here], attend, sites)
            else:
                law = cache.log_posterior(active, block[active, step], x, t[here], attend, sites)
            uniform = drawn[here].gather(2, sites.unsqueeze(1).expand(-1, 2, -1))
            chosen, tokens, log_prob = self._choose(law, rows(waiting, sites), int(number.max()), uniform)
            sites = sites.gather(1, chosen)
            appears = torch.arange(sites.shape[1], device=device) < number.to(device).unsqueeze(1)
            x = x.scatter(1, sites, torch.where(appears, tokens, rows(x, sites)))
            of_sites = torch.zeros_like(move.log_prob[here])
            of_sites = of_sites.scatter(1, sites, log_prob.masked_fill(~appears, 0.0).to(of_sites.dtype))
            nothing = torch.zeros_like(move.log_prob)
            move = Move(move.x.index_copy(0, here, x), t, nothing.index_copy(0, here, of_sites))
            yield move

    def _plan(self, canvas: Canvas) -> tuple[Int[Tensor, "batch steps"], ...]:
        """`schedule` of each row, on the CPU, with zeros behind its end."""
        planned = [self.schedule(free) for free in canvas.free.sum(1).tolist()]
        steps = max(map(len, planned))
        return torch.tensor([row + [(0, 0, 0)] * (steps - len(row)) for row in planned]).unbind(-1)

    def _choose(
        self, law: Laws, waiting: Bool[Tensor, "rows sites"], number: int, uniform: Float[Tensor, "rows 2 sites"]
    ) -> tuple[Int[Tensor, "rows number"], Int[Tensor, "rows number"], Float[Tensor, "rows number"]]:
        """Which sites are filled, best first, with which tokens, and the log-probabilities of these."""
        of_tokens, of_sites = uniform.unbind(1)
        seen = self._tempered(law) if self.confidence == "tempered" else law
        if self.rule in OF_STATE:
            chosen = self._best(OF_STATE[self.rule](seen), waiting, of_sites)[:, :number]
            return chosen, *self._draw(rows(law, chosen), rows(of_tokens, chosen))
        tokens, log_prob = self._draw(law, of_tokens)
        chosen = self._best(pick(seen, tokens).exp(), waiting, of_sites)[:, :number]
        return chosen, rows(tokens, chosen), rows(log_prob, chosen)

    def _best(self, confidence: PerSite, waiting: Bool[Tensor, "rows sites"], uniform: PerSite) -> Tensor:
        if self.rule_temperature > 0:
            confidence = confidence / self.rule_temperature + gumbel(uniform)
        return confidence.masked_fill(~waiting, -torch.inf).argsort(dim=1, descending=True, stable=True)

    def _draw(self, law: Laws, uniform: PerSite) -> tuple[Int[Tensor, "rows sites"], PerSite]:
        """Tokens, and their log-probabilities under the law that they were drawn from."""
        if self.temperature == 0:
            tokens = law.argmax(-1)
            return tokens, 0 * pick(law, tokens)  # certain, but NaN where the network's numbers are
        law = self._tempered(law)
        tokens = draw(law.exp(), uniform)
        return tokens, pick(law, tokens)

    def _tempered(self, law: Laws) -> Laws:
        """What tokens are drawn from, but for temperature 0, which takes the likeliest of it."""
        if self.temperature not in (0, 1):
            law = (law / self.temperature).log_softmax(-1)
        return nucleus(law, self.top_p) if self.top_p < 1 else law


def nucleus(law: Laws, top_p: float) -> Laws:
    """The likeliest tokens that hold `top_p` of the probability together, as few as it takes (arXiv 1904.09751)."""
    ordered, tokens = law.sort(dim=-1, descending=True)
    probability = ordered.exp()
    beyond = probability.cumsum(-1) - probability >= top_p
    return torch.empty_like(law).scatter(-1, tokens, ordered.masked_fill(beyond, -torch.inf)).log_softmax(-1)


def _blocks(canvas: Canvas, length: int | None) -> Int[Tensor, "batch length"]:
    """The block of each free site, -1 where given."""
    rank = canvas.free.cumsum(1) - 1
    block = torch.zeros_like(rank) if length is None else torch.div(rank, length, rounding_mode="floor")
    return block.masked_fill(~canvas.free, -1)


def _evenly(total: int, parts: int) -> list[int]:
    """As evenly as can be, the larger ones first (LLaDA's get_num_transfer_tokens)."""
    return [total // parts + (part < total % parts) for part in range(parts)]
