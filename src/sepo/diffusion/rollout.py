"""A rollout: what a sampler did, stored so that any policy can be read along it later.

A path of the absorbing process is two integer arrays, tokens and order: every state it visited follows from them. A
path of the uniform process revisits sites, so its states are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.record import Record
from sepo.typing import Bool, Float, Int, Tokens


@dataclass(frozen=True, eq=False)
class MaskedPath(Record):
    """From the start of a canvas to x0, each free site revealed once.

    order[b, i]: the step at which site i appeared, -1 if it was given; times[b, j]: the time at which the network was
    read before step j; log_prob[b, i]: log-probability of the token of site i when it was drawn, 0 if given;
    ordered[b]: the state says which sites come next, as from left to right. Where it does not, and None: in no row,
    any masked site is as likely as any other.
    """

    canvas: Canvas
    x0: Tokens
    order: Tokens
    times: Float[Tensor, "batch steps"]
    log_prob: Float[Tensor, "batch length"]
    ordered: Bool[Tensor, " batch"] | None = None

    @property
    def steps(self) -> int:
        return self.times.shape[1]

    def states(self, steps: Int[Tensor, "batch view"], mask: int) -> Int[Tensor, "batch view length"]:
        """The state before each of the given steps."""
        return self.x0.unsqueeze(1).masked_fill(self.masked(steps), mask)

    def masked(self, steps: Int[Tensor, "batch view"]) -> Bool[Tensor, "batch view length"]:
        """Sites that are masked before each step."""
        return self.order.unsqueeze(1) >= steps.unsqueeze(-1)

    def revealed(self, steps: Int[Tensor, "batch view"]) -> Bool[Tensor, "batch view length"]:
        """Sites that appear in each step."""
        return self.order.unsqueeze(1) == steps.unsqueeze(-1)

    def hazard(
        self, masked: Bool[Tensor, "batch view length"], revealed: Float[Tensor, "batch view length"]
    ) -> Float[Tensor, "batch view length"]:
        """How many times each site was to appear, given the state: `revealed` itself where the state says it, else
        spread over all masked sites."""
        spread = masked * revealed.sum(-1, keepdim=True) / masked.sum(-1, keepdim=True).clamp_min(1)
        return spread if self.ordered is None else torch.where(self.ordered[:, None, None], revealed, spread)

    def active(self) -> Bool[Tensor, "batch steps"]:
        """Steps in which something appeared."""
        hits = torch.zeros(len(self.x0), self.steps + 1, dtype=torch.bool, device=self.x0.device)
        return hits.scatter(1, self.order + 1, True)[:, 1:]

    def per_step(self, values: Float[Tensor, "batch length"]) -> Float[Tensor, "batch steps"]:
        """Values of sites, summed over the sites that appeared in each step."""
        sums = torch.zeros(len(values), self.steps + 1, dtype=values.dtype, device=values.device)
        return sums.scatter_add(1, self.order + 1, values)[:, 1:]


@dataclass(frozen=True, eq=False)
class StatePath(Record):
    """All states of a path from noise (first) to x0 (last).

    times[b, j]: that of state j, 1 at the first and 0 at the last; log_prob[b, j, i]: log-probability of the token of
    site i after step j given the state before, 0 if given.
    """

    canvas: Canvas
    states: Int[Tensor, "batch states length"]
    times: Float[Tensor, "batch states"]
    log_prob: Float[Tensor, "batch steps length"]

    @property
    def x0(self) -> Tokens:
        return self.states[:, -1]

    @property
    def steps(self) -> int:
        return self.states.shape[1] - 1

    def active(self) -> Bool[Tensor, "batch steps"]:
        """Every step."""
        return torch.ones(len(self.states), self.steps, dtype=torch.bool, device=self.states.device)

    def per_step(self, values: Float[Tensor, "batch steps length"]) -> Float[Tensor, "batch steps"]:
        return values.sum(-1)


Rollout = MaskedPath | StatePath
