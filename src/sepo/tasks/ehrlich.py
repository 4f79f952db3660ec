"""Ehrlich functions as a task: sequences without banned steps, unconditional; the reward is a black box up to 1.

The model learns the law of the feasible sequences, the chain of `sepo.tasks.ehrlich_function`; no sequence of it is
near the optimum. Values are products over motifs and span orders of magnitude: choose how the reward sees them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.sequences import distinct_fraction
from sepo.models.families import as_denoiser
from sepo.models.networks.positions import Rotary
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.runs.pixels import Pixels
from sepo.tasks.base import Row, Task, stacked
from sepo.tasks.ehrlich_function import Ehrlich

Values = Float[Tensor, " batch"]


@dataclass(frozen=True)
class EhrlichTask(Task):
    """num_states, dim, num_motifs, motif_length, quantization, epistasis_factor, random_seed: the function's.

    transform: how the reward grows with the value f, each from 0 to 1: none, f itself; log, log(1 + f/m) / log(1 + 1/m)
    with m the smallest value above 0; rank, the share of the sequences rewarded together that are worse, ties half (a
    mean reward then says nothing). infeasible: reward of a sequence with a banned step, 0 or below. trained, held:
    sequences to learn and to hold out; seed: of them.
    """

    num_states: int = 32
    dim: int = 32
    num_motifs: int = 4
    motif_length: int = 4
    quantization: int | None = None
    epistasis_factor: float = 0.0
    random_seed: int = 0
    transform: str = "none"
    infeasible: float = 0.0
    trained: int = 65536
    held: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise ValueError(f"transform={self.transform!r}: choose {', '.join(TRANSFORMS)}.")
        if not -math.inf < self.infeasible <= 0:
            raise ValueError(
                f"infeasible={self.infeasible}: must be finite and not above 0, the least feasible reward."
            )
        for name in ("trained", "held"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: needs at least 1.")
        self.function  # noqa: B018 (refuses its options now, not in the middle of a run)

    @cached_property
    def function(self) -> Ehrlich:
        return Ehrlich(
            self.num_states,
            self.dim,
            self.num_motifs,
            self.motif_length,
            self.quantization,
            self.epistasis_factor,
            self.random_seed,
        )

    @property
    def mask(self) -> int:
        """Tokens 0 .. num_states-1 are the states, the mask comes after them."""
        return self.num_states

    @cached_property
    def data(self) -> list[list[int]]:
        return self.function.sample(self.trained + self.held, self.seed).tolist()

    def corpus(self) -> list[Row]:
        return [{"tokens": sequence} for sequence in self.data[: self.trained]]

    def heldout(self) -> list[Row] | None:
        """Those that are not in the corpus; of few and short sequences none may be left."""
        seen = {tuple(sequence) for sequence in self.data[: self.trained]}
        return [{"tokens": each} for each in self.data[self.trained :] if tuple(each) not in seen] or None

    def denoiser(self) -> Denoiser:
        """A small transformer; angles for positions, because a motif and a step may stand anywhere."""
        config = TransformerConfig(
            vocab_size=self.num_states + 1, position=Rotary(), hidden_size=64, num_hidden_layers=2
        )
        return as_denoiser(Transformer(config), Absorbing(self.num_states + 1, self.mask), length=self.dim)

    def values(self, completions: Sequence[Any]) -> Values:
        """The function itself, -inf for infeasible sequences."""
        return self.function(torch.from_numpy(stacked(completions, self.dim)))

    def reward(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float]:
        """The transformed value of each feasible sequence, `infeasible` of each other."""
        values = self.values(completions)
        seen = TRANSFORMS[self.transform](values.double(), self.function.smallest)
        return seen.where(values > -torch.inf, self.infeasible).tolist()

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        """value_best, value_mean (infeasible sequences count 0), feasible and distinct_fraction (shares), and
        number_solved, the sequences of value 1."""
        values = self.values(completions)
        return {
            "value_best": float(values.max().clamp(min=0)),
            "value_mean": float(values.clamp(min=0).double().mean()),
            "feasible": float((values > -torch.inf).double().mean()),
            "distinct_fraction": distinct_fraction(torch.from_numpy(stacked(completions, self.dim))),
            "number_solved": float((values == 1).sum()),
        }

    def draw(self, prompts: Sequence[Any], tokens: Integer[np.ndarray, "sample *frame length"]) -> Pixels:
        """Each sequence as a row of grey cells, one grey per state."""
        return Pixels(np.expand_dims(tokens, -2), self.num_states, self.mask)


def as_it_is(values: Values, smallest: float) -> Values:
    return values


def logarithm(values: Values, smallest: float) -> Values:
    return (values.clamp(min=0) / smallest).log1p() / math.log1p(1 / smallest)


def rank(values: Values, smallest: float) -> Values:
    worse = (values.unsqueeze(1) > values).double().mean(1)
    return worse + (values.unsqueeze(1) == values).double().mean(1) / 2


TRANSFORMS = {"none": as_it_is, "log": logarithm, "rank": rank}
