"""Sequences that somebody measured, and an oracle of what nobody did: regulatory DNA, RNA, proteins.

The generator learns all of the table; the reward is an oracle fitted to one part of it, and what is reported is what a
second oracle says, of another architecture and fitted to groups that the first never saw (`sepo.oracles.splits`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.motif_hits import hit_correlation, motif_hits
from sepo.evaluation.motifs import LETTERS, Motifs, read_motifs
from sepo.evaluation.sequences import (
    distinct_fraction,
    kmer_correlation,
    kmer_correlations,
    letter_share,
    mean_hamming_distance,
    nearest_distance,
)
from sepo.models import as_denoiser
from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.oracles import (
    Ensemble,
    LightningOracle,
    Measurements,
    Oracle,
    SoftOracle,
    load_oracle,
    oracle_named,
    read_measurements,
    require_apart,
)
from sepo.samplers.guided import SoftReward
from sepo.tasks.asking import Answers, asked
from sepo.tasks.base import Row, Task, TokenRows, device_for, stacked
from sepo.typing import Tokens

KMERS = (3, 6)
OF_ONE = 3
"""Letters of the words that are counted in a single sequence, which has too few longer ones."""
COMPARED = 2000
"""Rows of the table that a second oracle from outside is asked about."""
NUCLEOTIDES = ("ACGT", "ACGU")


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
        oracle_timeout: seconds that a command may take for 256 sequences or fewer.
        doubt: standard deviations between the members of the reward's ensemble that are taken off its mean; of an
            oracle from outside that is no ensemble nothing is.
        hidden_size: channels of the generator.
        stacks: its convolutions of each dilation.
        top: share of the table with the highest activity, whose k-mers and motifs the designs are compared with.
        motifs: a file of motifs (JASPAR's, in its own or the MEME format) that are looked for in DNA; null: none.
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
    motifs: str | None = None
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

    def soft_reward(self, device: torch.device) -> SoftReward | None:
        oracle, letters = self.oracle("reward"), len(self.measured.alphabet.letters)
        if isinstance(oracle, (Ensemble, LightningOracle)):
            oracle = oracle.to(device)
        if isinstance(oracle, Ensemble):
            oracle.requires_grad_(False)
        if not isinstance(oracle, SoftOracle):
            return None
        soft = oracle.soft

        def soft_reward(shares: Tensor) -> Tensor:
            return soft(shares[..., :letters])

        return soft_reward

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
        return asked(self._oracles["reward"], self._tokens(completions)).tolist()

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        """activity: the judge's median, in the unit of the table; kmer_k, motif_correlation: with the table's best;
        nearest_distance: median, to the whole table.
        """
        tokens = self._tokens(completions)
        return self.figures(tokens, self.answers(tokens))

    def answers(self, tokens: Tokens) -> Answers:
        """What the oracles say."""
        reward, other = self._oracles["reward"], self._oracles.get("other")
        return Answers(
            asked(reward, tokens),
            asked(self._oracles["judge"], tokens),
            asked(reward.spread, tokens) if isinstance(reward, Ensemble) else None,
            None if other is None else asked(other, tokens),
        )

    def figures(self, tokens: Tokens, answers: Answers) -> dict[str, float]:
        """The metrics of sequences of which the oracles were asked."""
        found = {
            "activity": float(answers.judge.median()),
            "reward_median": float(answers.reward.median()),
            "distinct": distinct_fraction(tokens),
            "pairwise_distance": mean_hamming_distance(tokens) if len(tokens) > 1 else 0.0,
            "nearest_distance": float(nearest_distance(tokens, self.measured.tokens).double().median()),
        }
        if answers.doubt is not None:
            found["doubt"] = float(answers.doubt.mean())
        for k in self._kmers:
            found[f"kmer_{k}"] = kmer_correlation(tokens, self._best, k, self._size)
        if self.known_motifs is not None:
            correlation = hit_correlation(motif_hits(tokens, self.known_motifs).sum(0), self._best_hits)
            found |= {} if math.isnan(correlation) else {"motif_correlation": correlation}
        if answers.other is not None:
            found["second_share"] = float((answers.other > self._second_cut).double().mean())
        return found

    def described(self, tokens: Tokens) -> dict[str, Tensor]:
        """Of each sequence, without an oracle: its distance to the nearest of the table, its share of G and C, the
        correlation of its 3-mers with the table's best, how often a motif stands in it, and how many different ones do.
        """
        letters = self.measured.alphabet.letters
        found: dict[str, Tensor] = {"nearest_distance": nearest_distance(tokens, self.measured.tokens)}
        if letters in NUCLEOTIDES:
            found["gc"] = letter_share(tokens, [letters.index(letter) for letter in "GC"])
        if OF_ONE in self._kmers:
            found[f"kmer_{OF_ONE}"] = kmer_correlations(tokens, self._best, OF_ONE, self._size)
        if self.known_motifs is not None:
            hits = motif_hits(tokens, self.known_motifs)
            found |= {"motif_hits": hits.sum(1), "motifs": (hits > 0).sum(1)}
        return found

    @cached_property
    def known_motifs(self) -> Motifs | None:
        """Those that are looked for.

        Raises:
            ValueError: the sequences are not of DNA, or the file holds no motifs.
        """
        if self.motifs is None:
            return None
        letters = self.measured.alphabet.letters
        if letters != LETTERS:
            raise ValueError(
                f"motifs={self.motifs!r} are looked for in DNA, whose letters are {LETTERS}, and these sequences "
                f"are of {letters}: leave the option out, or set the alphabet to dna."
            )
        return read_motifs(self.motifs)

    @property
    def _size(self) -> int:
        return len(self.measured.alphabet.letters)

    @property
    def _kmers(self) -> list[int]:
        return [k for k in KMERS if k <= self.measured.length and self._size**k <= 10_000]

    def spelled(self, completions: Sequence[Any]) -> list[str] | None:
        return self.measured.alphabet.words(completions)

    @cached_property
    def _best(self) -> Tensor:
        activity = self.measured.activity
        return self.measured.tokens[activity.topk(max(int(self.top * len(activity)), 2)).indices]

    @cached_property
    def _best_hits(self) -> Tensor:
        assert self.known_motifs is not None
        return motif_hits(self._best, self.known_motifs).sum(0)

    @cached_property
    def _second_cut(self) -> float:
        """The other oracle's value that a tenth of the sequences passes that were measured in its assay; of an oracle
        from outside, a tenth of some rows of the table."""
        if self.second_oracle is not None:
            chosen = self._order[:COMPARED]
        else:
            assert self.measured.second is not None
            chosen = self.measured.second.isfinite()
        tokens = self.measured.tokens[chosen]
        return float(asked(self._oracles["other"], tokens).quantile(0.9))

    def _tokens(self, completions: Sequence[Any]) -> Tensor:
        return torch.from_numpy(stacked(completions, self.measured.length))
