"""Sequences that somebody measured, and an oracle of what nobody did: regulatory DNA, RNA, proteins.

The generator learns all of the table; the reward is an oracle fitted to one part of it, and what is reported is what a
second oracle says, of another architecture and fitted to groups that the first never saw (`sepo.oracles.splits`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.sequences import distinct_fraction, kmer_correlation, mean_hamming_distance, nearest_distance
from sepo.models import as_denoiser
from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.oracles import (
    Ensemble,
    Measurements,
    Oracle,
    load_oracle,
    oracle_named,
    read_measurements,
    require_apart,
)
from sepo.tasks.base import Row, Task, TokenRows, device_for, stacked

KMERS = (3, 6)
COMPARED = 2000
"""Rows of the table that distances to the nearest are taken to."""


@dataclass(frozen=True)
class Measured(Task):
    """A table and its oracles.

    Args:
        data: the table: csv, tsv, parquet or fasta.
        alphabet: dna, rna, protein, or the letters.
        sequence: the column of sequences.
        activity: the column that is to be raised.
        second: a column of another assay, whose oracle is reported and never rewarded; null: there is none.
        group: the column of chromosomes, clusters or families; null: there is none.
        oracles: the folder with the oracles reward, judge and, with `second`, other, that `sepo design` has fitted.
        reward_oracle: in place of the fitted one: package.module:function, file.py:function, a command line, a .ckpt
            of gReLU, or a folder (`sepo.oracles.oracle_named`).
        judge_oracle: the same for the one that judges.
        second_oracle: the same for the one that is reported beside it.
        oracle_timeout: seconds that a command may take.
        doubt: standard deviations between the members of the reward's ensemble that are taken off its mean; of an
            oracle from outside that is no ensemble nothing is.
        hidden_size: channels of the generator.
        stacks: its convolutions of each dilation.
        top: share of the table with the highest activity, whose k-mers the designs are compared with.
        device: of the oracles; null: a GPU if there is one.
        cluster: letters in common that make one group of sequences, in place of a column of groups.
    """

    data: str = ""
    alphabet: str = "dna"
    sequence: str = "sequence"
    activity: str = "activity"
    second: str | None = None
    group: str | None = None
    oracles: str | None = None
    reward_oracle: str | None = None
    judge_oracle: str | None = None
    second_oracle: str | None = None
    oracle_timeout: float = 600.0
    doubt: float = 0.0
    hidden_size: int = 64
    stacks: int = 4
    top: float = 0.01
    device: str | None = None
    cluster: int | None = None

    def __post_init__(self) -> None:
        require_apart(self.reward_oracle, self.judge_oracle, self.oracles)

    @cached_property
    def measured(self) -> Measurements:
        columns = (self.sequence, self.activity, self.second, self.group)
        return read_measurements(self.data, self.alphabet, *columns, self.cluster)

    @cached_property
    def _order(self) -> Tensor:
        return torch.randperm(len(self.measured), generator=Generator().manual_seed(0))

    @property
    def _held(self) -> int:
        return min(len(self.measured) // 20, 512)

    def corpus(self) -> Sequence[Row]:
        return TokenRows(self.measured.tokens[self._order[self._held :]])

    def heldout(self) -> Sequence[Row] | None:
        return TokenRows(self.measured.tokens[self._order[: self._held]]) if self._held else None

    def denoiser(self) -> Denoiser:
        letters = len(self.measured.alphabet.letters)
        config = DnaCnnConfig(letters + 1, self.measured.length, self.hidden_size, self.stacks)
        return as_denoiser(DnaCnn(config), Absorbing(letters + 1, mask=letters))

    def oracle(self, name: str) -> Oracle:
        """One of reward, judge and other.

        Raises:
            ValueError: no folder was named, or it does not hold the oracle; or the one named from outside is not there.
        """
        doubt, device = self.doubt if name == "reward" else 0.0, device_for(self.device)
        outside = {"reward": self.reward_oracle, "judge": self.judge_oracle, "other": self.second_oracle}[name]
        if outside is not None:
            return oracle_named(outside, self.measured.alphabet.letters, self.oracle_timeout, doubt, device)
        if self.oracles is None:
            raise ValueError(
                f"The task has no oracle {name!r}: name the folder of all with --task.oracles, which `sepo design` "
                f"fits, or your own with --task.{'second' if name == 'other' else name}_oracle."
            )
        return load_oracle(f"{self.oracles}/{name}", doubt, device)

    @property
    def has_other(self) -> bool:
        """Whether there is an oracle that is reported beside the judge."""
        return self.second is not None or self.second_oracle is not None

    @cached_property
    def _oracles(self) -> Mapping[str, Oracle]:
        return {name: self.oracle(name) for name in ("reward", "judge", *(("other",) if self.has_other else ()))}

    def reward(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float]:
        return self._oracles["reward"](self._tokens(completions)).tolist()

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        """activity: the judge's median, in the unit of the table; kmer_k: correlation with the table's best."""
        tokens = self._tokens(completions)
        found = {
            "activity": float(self._oracles["judge"](tokens).median()),
            "reward_median": float(self._oracles["reward"](tokens).median()),
            "distinct": distinct_fraction(tokens),
            "pairwise_distance": mean_hamming_distance(tokens) if len(tokens) > 1 else 0.0,
            "nearest_distance": float(nearest_distance(tokens, self._compared).double().median()),
        }
        if isinstance(self._oracles["reward"], Ensemble):
            found["doubt"] = float(self._oracles["reward"].spread(tokens).mean())
        size = len(self.measured.alphabet.letters)
        for k in (k for k in KMERS if size**k <= 10_000):
            found[f"kmer_{k}"] = kmer_correlation(tokens, self._best, k, size)
        if self.has_other:
            found["second_share"] = float((self._oracles["other"](tokens) > self._second_cut).double().mean())
        return found

    def spelled(self, completions: Sequence[Any]) -> list[str] | None:
        return self.measured.alphabet.words(completions)

    @cached_property
    def _best(self) -> Tensor:
        activity = self.measured.activity
        return self.measured.tokens[activity.topk(max(int(self.top * len(activity)), 2)).indices]

    @cached_property
    def _compared(self) -> Tensor:
        return self.measured.tokens[self._order[:COMPARED]]

    @cached_property
    def _second_cut(self) -> float:
        """The other oracle's value that a tenth of the sequences passes that were measured in its assay; of an oracle
        from outside, a tenth of some rows of the table."""
        second = self.measured.second
        known = slice(None) if second is None else second.isfinite()
        tokens = self.measured.tokens[known] if self.second_oracle is None else self._compared
        return float(self._oracles["other"](tokens).quantile(0.9))

    def _tokens(self, completions: Sequence[Any]) -> Tensor:
        return torch.from_numpy(stacked(completions, self.measured.length))
