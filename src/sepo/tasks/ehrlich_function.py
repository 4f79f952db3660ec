r"""Ehrlich functions: black boxes in closed form that are hard in the ways in which designing sequences is hard.

    f(x) = prod_i r(h_i(x)) if every step from a letter of x to the next is allowed, else -inf
    h_i(x) = max_l floor(q/k #{j : x_(l + s_ij) = a_ij}) / q,    r(h) = h (1 + e h (h - 1))

a_i: one of c motifs of k letters; s_i: where its letters stand, counted from the first; q: levels (quantization); e:
epistasis. The allowed steps are those of a random Markov chain with banned transitions, which also wrote the motifs,
one behind the other, so that a sequence of value 1 exists. "Closed-Form Test Functions for Biophysical Sequence Design
Benchmarking" (Stanton et al. 2024, arXiv 2407.00236).

Options and seed name the same function as in the authors' package, pytorch-holo 0.0.5
(`holo.test_functions.closed_form.Ehrlich`), because chance is drawn in its order; no code of it is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sepo.typing import PerSequence, Tokens

TEMPERATURE = 0.5
BAND = 0.4
"""Share of the states on either side of the middle of a row's band: the steps that are allowed besides staying."""


@dataclass(frozen=True, eq=False)
class Instance:
    """What the seed decides; `stationary` is the law of the chain's first letter, `spacings` are steps from one letter
    of a motif to its next."""

    transition: Float[Tensor, "state state"]
    stationary: Float[Tensor, " state"]
    motifs: Int[Tensor, "motif letter"]
    spacings: Int[Tensor, "motif gap"]


@dataclass(frozen=True)
class Ehrlich:
    """num_states: letters; dim: length of a sequence; quantization: levels of a motif, None: one per letter of it;
    epistasis_factor: how much less half a motif is worth than half.
    """

    num_states: int = 5
    dim: int = 7
    num_motifs: int = 1
    motif_length: int = 3
    quantization: int | None = None
    epistasis_factor: float = 0.0
    random_seed: int = 0

    def __post_init__(self) -> None:
        if self.num_states < 3:
            raise ValueError(f"num_states={self.num_states}: with fewer than 3 the chain may be stuck in one state.")
        if self.num_motifs < 1 or self.motif_length < 2:
            found = f"num_motifs={self.num_motifs}, motif_length={self.motif_length}"
            raise ValueError(f"{found}: there must be at least 1 motif of at least 2 letters.")
        if self.num_motifs * self.motif_length > self.dim:
            found = f"{self.num_motifs} motifs of {self.motif_length} letters"
            raise ValueError(f"dim={self.dim}: {found} do not fit; give at least their product.")
        if self.quantization is not None and not 1 <= self.quantization <= self.motif_length:
            raise ValueError(f"quantization={self.quantization}: choose 1 to motif_length={self.motif_length}.")
        if self.motif_length % self.letters_per_level:
            raise ValueError(
                f"quantization={self.quantization} of motif_length={self.motif_length}: levels of "
                f"{self.letters_per_level} letters do not reach the whole motif; choose a divisor of its length."
            )
        if not 0 <= self.epistasis_factor <= 4:
            raise ValueError(
                f"epistasis_factor={self.epistasis_factor}: choose 0 to 4; above, half a motif is below 0."
            )

    @property
    def letters_per_level(self) -> int:
        return math.ceil(self.motif_length / (self.quantization or self.motif_length))

    @cached_property
    def instance(self) -> Instance:
        return drawn(self)

    @cached_property
    def allowed(self) -> Bool[Tensor, "state state"]:
        """Whether a letter (row) may be followed by another (column); by itself always."""
        return self.instance.transition > 0

    @cached_property
    def responses(self) -> Float[Tensor, " matches"]:
        """What a motif contributes with 0, 1, .. motif_length of its letters in place, r(h)."""
        matches = torch.arange(self.motif_length + 1, dtype=torch.float32)
        level = matches // self.letters_per_level / (self.motif_length / self.letters_per_level)
        return (self.epistasis_factor * level * (level - 1.0) + 1.0) * level

    @property
    def smallest(self) -> float:
        """The smallest value above 0."""
        return float(self.responses[self.responses > 0].min().double()) ** self.num_motifs

    def __call__(self, tokens: Tokens) -> PerSequence:
        """f of each sequence: 0 to 1, or -inf where a banned step occurs.

        Raises:
            ValueError: the sequences are not `dim` long, or a token is no state.
        """
        matches = self.matches(tokens)
        value = self.responses.to(tokens.device)[matches].prod(0)
        return value.where(self.feasible(tokens), -torch.inf)

    def feasible(self, tokens: Tokens) -> Bool[Tensor, " batch"]:
        """Whether each sequence is without banned steps.

        Raises:
            ValueError: the sequences are not `dim` long, or a token is no state.
        """
        self._require(tokens)
        tokens = tokens.long()
        return self.allowed.to(tokens.device)[tokens[:, :-1], tokens[:, 1:]].all(1)

    def matches(self, tokens: Tokens) -> Int[Tensor, "motif batch"]:
        """Letters of each motif that stand right, at the place where most do."""
        self._require(tokens)
        first = torch.zeros_like(self.instance.spacings[:, :1])
        offsets = torch.cat([first, self.instance.spacings.cumsum(1)], dim=1).tolist()
        found = []
        for motif, places in zip(self.instance.motifs.tolist(), offsets, strict=True):
            starts = self.dim - places[-1]
            right = [tokens[:, at : at + starts] == letter for at, letter in zip(places, motif, strict=True)]
            found.append(torch.stack(right).sum(0).amax(1))
        return torch.stack(found)

    def sample(self, n: int, seed: int) -> Tokens:
        """`n` feasible sequences: the chain, started from its stationary law."""
        generator = torch.Generator().manual_seed(seed)
        return walk(self.instance.stationary, self.instance.transition, self.dim, n, generator)

    def initial(self, n: int = 1) -> Tokens:
        """The package's `initial_solution(n)`: with n = 1 the sequence from which its genetic algorithm starts."""
        return self.sample(n, self.random_seed)

    def optimal(self) -> Int[Tensor, " length"]:
        """A sequence of value 1: the motifs one behind the other, each letter repeated until the next one's place."""
        gaps = torch.cat([self.instance.spacings, torch.ones(self.num_motifs, 1, dtype=torch.long)], dim=1).flatten()
        gaps[-1] += self.dim - gaps.sum()
        return self.instance.motifs.flatten().repeat_interleave(gaps)

    def _require(self, tokens: Tokens) -> None:
        if tokens.shape[1] != self.dim:
            raise ValueError(f"sequences of {tokens.shape[1]} tokens: this function reads dim={self.dim}.")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.num_states:
            found = f"{int(tokens.min())} to {int(tokens.max())}"
            raise ValueError(f"tokens {found}: the states are 0 to {self.num_states - 1} (num_states - 1).")


def drawn(options: Ehrlich) -> Instance:
    """An instance from its seed: chain, then motifs, then spacings."""
    generator = torch.Generator().manual_seed(options.random_seed)
    transition = drawn_transition(options.num_states, generator)
    start = stationary(transition)
    letters = options.num_motifs * options.motif_length
    motifs = walk(start, transition, letters, 1, generator).view(options.num_motifs, options.motif_length)
    room = (options.dim - letters) // options.num_motifs
    shares = [torch.rand(options.motif_length - 1, generator=generator) for _ in range(options.num_motifs)]
    spacings = torch.stack([1 + (room * (share / share.sum())).floor().long() for share in shares])
    return Instance(transition, start, motifs, spacings)


def drawn_transition(states: int, generator: torch.Generator) -> Float[Tensor, "state state"]:
    """Softmax of normal numbers, but for what is banned: all that is outside of the row's band, and not the diagonal.

    A band is 2 floor(.4 states) + 1 neighbouring states, around the end too; each state is the middle of one row's.
    From three states on every state can be reached: a set of states that is never left, and the rest, would both have
    to be as large as a band.
    """
    dense = (torch.randn(states, states, generator=generator) / TEMPERATURE).softmax(-1)
    middle = torch.randperm(states, generator=generator)
    width, state = int(states * BAND), torch.arange(states)
    ahead = (state - middle.unsqueeze(1)) % states
    banned = (ahead > width) & (ahead < states - width) & (state != state.unsqueeze(1))
    kept = dense.masked_fill(banned, 0.0)
    return kept / kept.sum(-1, keepdim=True)


def stationary(transition: Float[Tensor, "state state"]) -> Float[Tensor, " state"]:
    """The law pi = pi P with sum 1: an overdetermined linear system, solved by QR."""
    states = len(transition)
    system = torch.cat([(torch.eye(states) - transition).T, torch.ones(1, states)])
    right = torch.zeros(states + 1, 1)
    right[-1] = 1
    q, r = torch.linalg.qr(system)
    return torch.linalg.solve(r, q.T @ right).squeeze(1)


def walk(
    start: Float[Tensor, " state"],
    transition: Float[Tensor, "state state"],
    length: int,
    n: int,
    generator: torch.Generator,
) -> Tokens:
    """`n` paths of a Markov chain."""
    path = [torch.multinomial(start, n, replacement=True, generator=generator)]
    while len(path) < length:
        path.append(torch.multinomial(transition[path[-1]], 1, generator=generator).squeeze(1))
    return torch.stack(path, dim=1)
