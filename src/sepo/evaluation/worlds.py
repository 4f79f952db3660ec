r"""Worlds small enough to enumerate, with denoisers that are exact, noisy or arbitrary.

The ideal denoiser of a data law p follows from sums alone. With m(z) the mass of all sequences that agree with the
masked state z,

    p(x0_i = v | z) = m(z with site i set to v) / m(z)                                   absorbing
    p(x0_i = v | z, t) proportional to sum_x p(x) 1[x_i = v] prod_j q_t(z_j | x_j)       uniform

A table of such numbers with noise added is a denoiser that belongs to no data law: its answers at different states
contradict each other, as those of a trained network do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Uniform
from sepo.diffusion.schedule import LogLinear, Schedule
from sepo.ops import rows
from sepo.typing import Sites, Time, Tokens

Law = Float[Tensor, " sequences"]
"""One number per sequence of a world, in the order of `World.sequences`: a law, a reward."""


MOST = 2**18
"""Sequences that a world may have."""


@dataclass(frozen=True)
class World:
    """All sequences of `length` tokens 0 .. letters - 1; the mask of the absorbing process is the id `letters`."""

    letters: int
    length: int

    def __post_init__(self) -> None:
        if self.letters < 2 or self.length < 1 or self.letters**self.length > MOST:
            raise ValueError(
                f"World(letters={self.letters}, length={self.length}): needs at least 2 letters, 1 site, and at most "
                f"{MOST} sequences to enumerate."
            )

    @cached_property
    def sequences(self) -> Int[Tensor, "sequences length"]:
        """In the order in which numbers are counted: the last site changes fastest."""
        return _count(self.letters, self.length)

    @cached_property
    def states(self) -> Int[Tensor, "states length"]:
        """All sequences in which any site may be masked, in the same order."""
        return _count(self.letters + 1, self.length)

    def index(self, tokens: Tokens) -> Int[Tensor, " batch"]:
        """The row of each in `sequences`."""
        return _number(tokens, self.letters)

    def state_index(self, tokens: Tokens) -> Int[Tensor, " batch"]:
        """The row of each in `states`."""
        return _number(tokens, self.letters + 1)

    def absorbing(self, schedule: Schedule | None = None) -> Absorbing:
        return Absorbing(self.letters + 1, self.letters, schedule=schedule or LogLinear())

    def uniform(self, schedule: Schedule | None = None) -> Uniform:
        return Uniform(self.letters, schedule=schedule or LogLinear())


def markov_chain(world: World, seed: int = 0, sharpness: float = 1.0) -> Law:
    """A data law in which neighbours depend on each other: random transitions with logits of size `sharpness`."""
    random = Generator().manual_seed(seed)
    start = (sharpness * torch.randn(world.letters, generator=random, dtype=torch.double)).softmax(0)
    moves = (sharpness * torch.randn(world.letters, world.letters, generator=random, dtype=torch.double)).softmax(1)
    law = start[world.sequences[:, 0]]
    for site in range(1, world.length):
        law = law * moves[world.sequences[:, site - 1], world.sequences[:, site]]
    return law


def parity(world: World) -> Law:
    """A reward that no single site decides: 1 if the tokens sum to an even number, else 0."""
    return (world.sequences.sum(1) % 2 == 0).double()


def count(world: World, letter: int = 0) -> Law:
    """A reward to which every site adds: how many sites hold the letter."""
    return (world.sequences == letter).sum(1).double()


def random_reward(world: World, seed: int = 0) -> Law:
    """A reward without any structure: a normal number per sequence."""
    return torch.randn(len(world.sequences), generator=Generator().manual_seed(seed), dtype=torch.double)


class Table(nn.Module):
    """A parameter per masked state, site and token: every time-free denoiser of a world, consistent or not."""

    def __init__(self, world: World, logits: Float[Tensor, "states length vocab"]) -> None:
        super().__init__()
        self.world = world
        self.logits = nn.Parameter(logits.clone())

    def forward(self, xt: Tokens) -> Float[Tensor, "batch length vocab"]:
        return self.logits[self.world.state_index(xt)]


class IdealUniform(nn.Module):
    """The posterior of the uniform process by Bayes' rule over all sequences; its parameter is the law's logarithm."""

    def __init__(self, world: World, law: Law) -> None:
        super().__init__()
        self.world = world
        self.log_law = nn.Parameter(law.log())

    def forward(self, xt: Tokens, sigma: Time) -> Float[Tensor, "batch length vocab"]:
        process, law = self.world.uniform(), self.log_law.softmax(0)
        likelihood = process.given_end(xt, (-sigma).exp().to(law.dtype))
        per_site = likelihood[:, torch.arange(self.world.length), self.world.sequences]
        joint = per_site.prod(-1) * law
        held = nn.functional.one_hot(self.world.sequences, self.world.letters).to(law.dtype)
        return torch.einsum("bs,slv->blv", joint, held).log()


def look_up(network: nn.Module, xt: Tokens, sigma: Time, attend: Sites | None, sites: Tensor | None) -> Tensor:
    """The call of a `Table`."""
    logits = network(xt)
    return logits if sites is None else rows(logits, sites)


def by_bayes(network: nn.Module, xt: Tokens, sigma: Time, attend: Sites | None, sites: Tensor | None) -> Tensor:
    """The call of an `IdealUniform`."""
    logits = network(xt, sigma)
    return logits if sites is None else rows(logits, sites)


def ideal_logits(world: World, law: Law) -> Float[Tensor, "states length vocab"]:
    """log p(x0_i = v | z) at every masked state z; the entries of sites that are not masked have no meaning."""
    mass = law.reshape([world.letters] * world.length)
    for site in range(world.length):
        mass = torch.cat([mass, mass.sum(site, keepdim=True)], dim=site)
    stride = _strides(world.letters + 1, world.length)
    without = torch.arange(len(world.states)).unsqueeze(1) - world.states * stride
    neighbours = without.unsqueeze(-1) + stride.unsqueeze(-1) * torch.arange(world.letters + 1)
    return (mass.flatten()[neighbours] / mass.flatten()[:, None, None]).log()


def tabular(world: World, law: Law, noise: float = 0.0, seed: int = 0, schedule: Schedule | None = None) -> Denoiser:
    """The ideal denoiser of the absorbing process as a `Table`, with normal noise of this size on its logits."""
    logits = ideal_logits(world, law)
    drawn = torch.randn(logits.shape, generator=Generator().manual_seed(seed), dtype=logits.dtype)
    return Denoiser(Table(world, logits + noise * drawn), world.absorbing(schedule), look_up, length=world.length)


def random_table(world: World, seed: int = 0, spread: float = 1.0) -> Denoiser:
    """An arbitrary denoiser of the absorbing process: normal logits of this size, inconsistent with every data law."""
    flat = torch.ones(len(world.sequences), dtype=torch.double) / len(world.sequences)
    return tabular(world, flat, spread, seed)


def ideal_uniform(world: World, law: Law, schedule: Schedule | None = None) -> Denoiser:
    """The ideal denoiser of the uniform process."""
    return Denoiser(IdealUniform(world, law), world.uniform(schedule), by_bayes, time_free=False, length=world.length)


def at_time(value: float, batch: int) -> Float[Tensor, " batch"]:
    return torch.full((batch,), value, dtype=torch.double)


def probabilities(policy: Denoiser, xt: Tokens) -> Float[Tensor, "batch length vocab"]:
    """p(x0_i = v | xt) of a time-free policy."""
    return policy.log_posterior(xt, at_time(0.5, len(xt))).exp()


def _strides(base: int, length: int) -> Int[Tensor, " length"]:
    return base ** torch.arange(length - 1, -1, -1)


def _count(base: int, length: int) -> Int[Tensor, "numbers length"]:
    return torch.arange(base**length).unsqueeze(1) // _strides(base, length) % base


def _number(tokens: Tokens, base: int) -> Int[Tensor, " batch"]:
    return (tokens * _strides(base, tokens.shape[1])).sum(1)
