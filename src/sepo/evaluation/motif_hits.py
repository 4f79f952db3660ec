r"""Where motifs stand in sequences, as FIMO finds them: both strands, every place with a small enough p-value.

A place scores sum_i log2 (p_i(x_i) + eps) / b(x_i), rounded to steps of `bin_size`. The law of the rounded score of a
random word of the background follows by dynamic programming, one column at a time, and the threshold is the smallest
score that such a word reaches with a probability below p: exact for the rounded scores (FIMO: scanning for occurrences
of a given motif, Bioinformatics 27, 2011). Sets of sequences are compared by the rank correlation of how often each
motif stands in them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sepo.evaluation.motifs import LETTERS, Matrix, Motifs
from sepo.typing import Int, Tokens

Rounded = Int[Tensor, "4 _"]
"""Scores of letters in steps of `bin_size`."""
AT_ONCE = 20_000_000
"""Scores that are held at once."""


@dataclass(frozen=True)
class Scan:
    """p: of a hit by chance, at one place of one strand; pseudocount: eps; bin_size: bits; background: of A, C, G, T.

    The defaults are those with which the DNA benchmark's motif correlation was published (gReLU's `scan_sequences`).
    """

    p: float = 1e-3
    pseudocount: float = 1e-4
    bin_size: float = 0.1
    background: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
    both_strands: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.p < 1:
            raise ValueError(f"p={self.p}: a probability, between 0 and 1.")
        if self.pseudocount <= 0 or self.bin_size <= 0:
            raise ValueError(f"pseudocount={self.pseudocount}, bin_size={self.bin_size}: must be positive.")
        if min(self.background) <= 0 or abs(sum(self.background) - 1) > 1e-6:
            raise ValueError(f"background={self.background}: four probabilities above 0 that add up to 1.")

    def rounded(self, matrix: Matrix) -> Rounded:
        bits = ((matrix + self.pseudocount) / torch.tensor(self.background, dtype=matrix.dtype).unsqueeze(1)).log2()
        return (bits / self.bin_size).round().long()

    def threshold(self, scores: Rounded) -> int | None:
        """The smallest score that a random word reaches with a probability below p; None: there is none."""
        lowest, survival = survival_of(scores, self.background)
        small = np.flatnonzero(survival < self.p)
        return int(small[0]) + lowest if len(small) else None


def survival_of(scores: Rounded, background: tuple[float, ...]) -> tuple[int, Float[np.ndarray, " scores"]]:
    """The lowest score, and the probability that a random word scores at least that, that + 1, ..., the highest."""
    table = scores.numpy()
    shift = table.min(0)
    law = np.ones(1)
    for column, base in zip(table.T, shift, strict=True):
        wider = np.zeros(len(law) + column.max() - base)
        for score, probability in zip(column - base, background, strict=True):
            wider[score : score + len(law)] += probability * law
        law = wider
    return int(shift.sum()), law[::-1].cumsum()[::-1]


def motif_hits(tokens: Tokens, motifs: Motifs, scan: Scan | None = None) -> Int[Tensor, "batch motifs"]:
    """How many places of each sequence are a hit of each motif; tokens 0, 1, 2, 3 are A, C, G, T.

    Both strands of a place count, as in the published numbers: a palindrome is two hits.

    Raises:
        ValueError: a token is no letter.
    """
    scan = scan or Scan()
    if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) > 3):
        raise ValueError(
            f"Tokens {int(tokens.min())} to {int(tokens.max())}: motifs know 0 to 3, {', '.join(LETTERS)}."
        )
    found = torch.zeros(len(tokens), len(motifs), dtype=torch.long)
    for width, (places, weights, thresholds) in _by_width(motifs, scan).items():
        if width > tokens.shape[1]:
            continue
        cells = (tokens.shape[1] - width + 1) * max(4 * width, len(places))
        for rows in torch.arange(len(tokens)).split(max(AT_ONCE // cells, 1)):
            words = functional.one_hot(tokens[rows].cpu().unfold(1, width, 1), 4).flatten(2).float()
            hits = (words @ weights >= thresholds).sum(1)
            found[rows] = found[rows].index_add(1, places, hits)
    return found


def _by_width(motifs: Motifs, scan: Scan) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """For the motifs of each width, each strand by itself: its number, weights [4 width, strands], and threshold.

    Whole numbers below 2^24 add up exactly in float32.
    """
    strands: dict[int, list[tuple[int, Rounded, int]]] = defaultdict(list)
    for number, matrix in enumerate(motifs.matrices):
        for strand in (matrix, matrix.flip(0, 1)) if scan.both_strands else (matrix,):
            scores = scan.rounded(strand)
            threshold = scan.threshold(scores)
            if threshold is not None:
                strands[scores.shape[1]].append((number, scores, threshold))
    return {
        width: (
            torch.tensor([number for number, _, _ in each]),
            torch.stack([scores.T.flatten() for _, scores, _ in each], dim=1).float(),
            torch.tensor([threshold for _, _, threshold in each]).float(),
        )
        for width, each in strands.items()
    }


def hit_correlation(hits: Int[Tensor, " motifs"], reference: Int[Tensor, " motifs"], in_both: bool = False) -> float:
    """Spearman's correlation of how often each motif stands in two sets of sequences; NaN if fewer than two are left.

    in_both: over motifs that stand in both sets, as published: a motif that the samples have lost then leaves the
    comparison. Else over motifs that stand in either.
    """
    present = (hits > 0) & (reference > 0) if in_both else (hits > 0) | (reference > 0)
    if int(present.sum()) < 2:
        return float("nan")
    first, second = (ranks(each[present]) for each in (hits, reference))
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def ranks(values: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """From 1; equal values share the mean of their ranks."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[place]
