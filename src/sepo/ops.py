"""Small operations on arrays: the draws that an algorithm makes, and sums that are safe next to log 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

BLOCK = 256
"""Categories that `draw` takes together in a large vocabulary."""


@dataclass(frozen=True, eq=False)
class Chance:
    """The uniform numbers of one batch, in groups of `rows` consecutive rows with a generator of their own.

    What a group draws depends on its own seed alone: not on the batch it travels in, the rank that draws it, or the
    device.
    """

    generators: tuple[Generator, ...]
    rows: int
    device: torch.device | str = "cpu"

    @staticmethod
    def seeded(
        seed: int, groups: Sequence[int], rows: int, device: torch.device | str = "cpu", purpose: int = 0
    ) -> Chance:
        """Generators seeded from (run seed, purpose, index of the group in the stream)."""
        generators = []
        for group in groups:
            state = np.random.SeedSequence([seed, purpose, group]).generate_state(1, np.uint64)[0]
            generators.append(Generator().manual_seed(int(state >> np.uint64(1))))
        return Chance(tuple(generators), rows, device)

    @staticmethod
    def of(seed: int, batch: int, device: torch.device | str = "cpu") -> Chance:
        """One generator for a whole batch."""
        return Chance.seeded(seed, [0], batch, device)

    @property
    def batch(self) -> int:
        return self.rows * len(self.generators)

    def uniform(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Uniform numbers in [0, 1): shape [batch, *shape], float64."""
        drawn = [torch.rand(self.rows, *shape, generator=each, dtype=torch.float64) for each in self.generators]
        return torch.cat(drawn).to(self.device)


def draw(probabilities: Float[Tensor, "*sites vocab"], uniform: Float[Tensor, "*sites"]) -> Int[Tensor, "*sites"]:
    """One category per row by inverting the cumulative sum in float64; rows need not be normalised.

    A category of probability zero is never drawn. Over a large vocabulary a block of categories is drawn first and then
    one of it, so that the float64 sums run over the blocks and over one block, not over a copy of everything.
    """
    vocab = probabilities.shape[-1]
    if vocab <= 4 * BLOCK:
        return _search(probabilities, uniform.double())[0]
    full = vocab - vocab % BLOCK
    blocks = probabilities[..., :full].unflatten(-1, (-1, BLOCK)).sum(-1)
    mass = torch.cat((blocks, probabilities[..., full:].sum(-1, keepdim=True)), dim=-1)
    block, rest = _search(mass, uniform.double())
    places = block.unsqueeze(-1) * BLOCK + torch.arange(BLOCK, device=block.device)
    within = probabilities.gather(-1, places.clamp_max(vocab - 1)).masked_fill(places >= vocab, 0.0)
    return (block * BLOCK + _search(within, rest)[0]).clamp_max(vocab - 1)


def _search(mass: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The first index whose cumulative sum exceeds u * total, and where in [0, 1) of its mass the threshold lies."""
    mass = mass.double()
    cumulative = mass.cumsum(-1)
    threshold = uniform.unsqueeze(-1) * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, threshold, right=True).clamp_max(mass.shape[-1] - 1)
    own = mass.gather(-1, index)
    passed = threshold - (cumulative.gather(-1, index) - own)
    return index.squeeze(-1), (passed / own).clamp(0.0, 1 - 2.0**-53).squeeze(-1)


def pick(values: Float[Tensor, "*sites vocab"], tokens: Int[Tensor, "*sites"]) -> Float[Tensor, "*sites"]:
    """The entry of each row that its token names."""
    return values.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def rows(values: Tensor, sites: Int[Tensor, "batch k"]) -> Tensor:
    """`values[b, sites[b, j]]` for every b and j; further axes are kept."""
    return values[torch.arange(len(values), device=values.device).unsqueeze(-1), sites]


def entropy(log_probs: Float[Tensor, "*sites vocab"]) -> Float[Tensor, "*sites"]:
    """-sum p log p in nats, with 0 log 0 = 0 and a finite slope there."""
    return -(log_probs.exp() * log_probs.masked_fill(log_probs == -torch.inf, 0.0)).sum(-1)


def divergence(new: Float[Tensor, "*sites vocab"], reference: Float[Tensor, "*sites vocab"]) -> Float[Tensor, "*sites"]:
    """KL(new || reference) in nats of two log-laws with the same support; entries ruled out in both count zero."""
    ruled_out = new == -torch.inf
    difference = new.masked_fill(ruled_out, 0.0) - reference.masked_fill(ruled_out, 0.0)
    return (new.exp() * difference).sum(-1)
