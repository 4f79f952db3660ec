r"""A population of particles: sequential Monte Carlo along the steps of a sampler, to p(path) exp(r(x0) / beta) / Z.

With a twist psi_j(x), 1 at the start or so, exp(r(x0) / beta) at the end, and steps drawn from q instead of p, a step
x -> x' multiplies a particle's weight by

    p(x' | x) / q(x' | x)  psi_(j+1)(x') / psi_j(x)

Whatever q > 0 and psi > 0 are, weighted particles are exact as their number grows, and the product of the mean weights
estimates Z without bias (Twisted Diffusion Sampler, arXiv 2306.17775, algorithm 1). When the effective number of
particles of a prompt falls below a share of them they are drawn anew by weight, systematically: of n particles one that
holds the share w of the weight leaves floor(n w) or ceil(n w) offspring. Each prompt's group is a population of its
own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, draw, pick
from sepo.record import Record
from sepo.samplers.base import KernelSampler, Move, Steps, start
from sepo.samplers.guided.hearing import log_prob_of
from sepo.typing import Float, Int, LogProbs, Time, Tokens

Rows = Int[Tensor, " batch"]
Weights = Float[Tensor, " batch"]
"""Logarithms, not normalised."""


@dataclass(frozen=True, eq=False)
class Look(Record):
    """law: p of the next step; proposal: q; log_twist: log psi of the state; t: when the network was read."""

    law: LogProbs
    proposal: LogProbs
    log_twist: Weights
    t: Time


Ahead = Callable[[Tokens, Steps], Look]
"""ahead(tokens after so many steps, that number) -> what a particle sees there; one evaluation per row."""


@dataclass(frozen=True, eq=False)
class Population(Record):
    """states, times, log_prob: along the line of each particle, log_prob under the inner sampler; log_weight: what it
    counts at the end; log_normaliser: of its group, exp of it has the mean Z; ess: of its group after each step, in
    particles; parents: the row that stood in for it after each step, itself where nothing was drawn anew."""

    states: Int[Tensor, "batch states length"]
    times: Float[Tensor, "batch steps"]
    log_prob: Float[Tensor, "batch steps length"]
    log_weight: Weights
    log_normaliser: Weights
    ess: Float[Tensor, "batch steps"]
    parents: Int[Tensor, "batch steps"]

    def moves(self) -> Iterator[Move]:
        nothing = torch.zeros_like(self.log_prob[:, 0])
        yield Move(self.states[:, 0], torch.ones_like(self.times[:, 0]), nothing)
        for step in range(self.times.shape[1]):
            yield Move(self.states[:, step + 1], self.times[:, step], self.log_prob[:, step])


def populate(
    inner: KernelSampler,
    policy: Denoiser,
    canvas: Canvas,
    chance: Chance,
    ahead: Ahead,
    end: Callable[[Tokens], Weights],
    particles: int,
    threshold: float,
) -> Population:
    """Each `particles` rows are a group. end: log psi of finished tokens; threshold: the share of effective particles
    below which they are drawn anew.

    Raises:
        ValueError: the rows of the canvas are no groups of one prompt each.
    """
    require_groups(canvas, particles)
    first = start(policy, canvas, chance)
    look, x = ahead(first.x, torch.zeros_like(first.x[:, 0])), first.x
    weight, normaliser = look.log_twist, torch.zeros_like(look.log_twist)
    states, told = [x], []
    for index in range(inner.steps):
        after = torch.where(canvas.free, draw(look.proposal, chance.uniform(x.shape[1])), x)
        change = pick(look.law, after).log() - pick(look.proposal, after).log()
        change = change.masked_fill(~canvas.free, 0.0).double().sum(1)
        log_prob, t = log_prob_of(inner, policy.process, look.law, x, after, canvas.free), look.t
        states.append(after)
        last = index == inner.steps - 1
        coming = look if last else ahead(after, torch.full_like(x[:, 0], index + 1))
        twist = end(after) if last else coming.log_twist
        weight = weight + change + (twist - look.log_twist)
        ess, parents = effective(weight, particles), torch.arange(len(x), device=x.device)
        if not last:
            renewed = ess < threshold * particles
            drawn = systematic(weight, chance.uniform(1), particles)
            parents = torch.where(renewed, drawn, parents)
            normaliser = torch.where(renewed, normaliser + log_mean(weight, particles), normaliser)
            weight = weight.masked_fill(renewed, 0.0)
        told.append((t, log_prob, ess, parents))
        look, x = coming[parents], after[parents]
    return _traced(states, told, weight, normaliser + log_mean(weight, particles))


def one_each(population: Population, chance: Chance, particles: int) -> Population:
    """Drawn by the final weights: as many as before, all of which count the same."""
    return population[systematic(population.log_weight, chance.uniform(1), particles)]


def systematic(weight: Weights, uniform: Float[Tensor, "batch 1"], particles: int) -> Rows:
    """Rows of the batch, drawn by weight within each group; the first uniform number of a group serves it."""
    cumulative = weight.unflatten(0, (-1, particles)).softmax(-1).cumsum(-1)
    place = torch.arange(particles, device=weight.device)
    point = (uniform[:, 0].unflatten(0, (-1, particles))[:, :1] + place) / particles
    point = point.clamp_max(1 - 2.0**-53)
    chosen = torch.searchsorted(cumulative / cumulative[:, -1:], point, right=True).clamp_max(particles - 1)
    return (chosen + particles * torch.arange(len(chosen), device=weight.device).unsqueeze(1)).flatten()


def effective(weight: Weights, particles: int) -> Weights:
    """1 / sum w^2 of the group of each row, from 1 to `particles`."""
    share = weight.unflatten(0, (-1, particles)).softmax(-1)
    return (1 / share.square().sum(-1)).repeat_interleave(particles)


def log_mean(weight: Weights, particles: int) -> Weights:
    """log of the mean weight of the group of each row."""
    total = weight.unflatten(0, (-1, particles)).logsumexp(-1)
    return (total - math.log(particles)).repeat_interleave(particles)


def require_groups(canvas: Canvas, particles: int) -> None:
    remedy = "give each prompt as many rows in a row as there are particles: canvas.repeat(particles)."
    if len(canvas) % particles:
        raise ValueError(f"{len(canvas)} rows are no groups of {particles} particles: {remedy}")
    free, given = (
        each.unflatten(0, (-1, particles)) for each in (canvas.free, canvas.tokens.masked_fill(canvas.free, 0))
    )
    mixed = ((free != free[:, :1]) | (given != given[:, :1])).any(-1).any(-1)
    if mixed.any():
        first = particles * int(mixed.nonzero()[0])
        raise ValueError(
            f"Rows {first} to {first + particles - 1} of the canvas are one group of particles but differ in what is "
            f"given: {remedy}"
        )


def _traced(
    states: list[Tokens],
    told: list[tuple[Tensor, Tensor, Tensor, Tensor]],
    weight: Weights,
    normaliser: Weights,
) -> Population:
    """From the last step back to the start, each row along its own ancestors."""
    times, log_prob, ess, parents = (list(column) for column in zip(*told, strict=True))
    row = torch.arange(len(weight), device=weight.device)
    line, said, read = [states[-1]], [], []
    for step in reversed(range(len(told))):
        said.append(log_prob[step][row])
        read.append(times[step][row])
        if step:
            row = parents[step - 1][row]
        line.append(states[step][row])
    line, said, read = (torch.stack(each[::-1], dim=1) for each in (line, said, read))
    return Population(line, read, said, weight, normaliser, torch.stack(ess, dim=1), torch.stack(parents, dim=1))
