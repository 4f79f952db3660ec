"""Sets of sequences compared: how different from each other, from a corpus, and in their k-mers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sepo.typing import Int, Tokens

CELLS = 2**24
"""Numbers that are held at once where two large sets are compared."""


def mean_hamming_distance(tokens: Tokens) -> float:
    """Mean number of sites in which two different rows differ, over all pairs; from letter counts, in O(batch length).

    Raises:
        ValueError: fewer than two rows.
    """
    batch = len(tokens)
    if batch < 2:
        raise ValueError(f"{batch} sequences make no pairs; give at least 2.")
    size = int(tokens.max()) + 1
    counts = torch.zeros(tokens.shape[1], size, dtype=torch.double, device=tokens.device)
    counts.scatter_add_(1, tokens.T, torch.ones_like(tokens.T, dtype=torch.double))
    agreeing = (counts * (counts - 1)).sum(1) / (batch * (batch - 1))
    return float((1 - agreeing).sum())


def diversity_ratio(samples: Tokens, reference: Int[Tensor, "reference length"]) -> float:
    """Mean pairwise Hamming distance of the samples over that of the reference: 1 as diverse, 0 all the same.

    Raises:
        ValueError: fewer than two rows, or all rows of the reference are the same.
    """
    among = mean_hamming_distance(reference)
    if among == 0:
        raise ValueError("All reference sequences are the same, so nothing can be compared to their diversity.")
    return mean_hamming_distance(samples) / among


def distinct_fraction(tokens: Tokens) -> float:
    """Number of different rows over the number of rows."""
    return len(tokens.unique(dim=0)) / len(tokens)


def nearest_distance(
    samples: Tokens, corpus: Int[Tensor, "corpus length"], cells: int = CELLS
) -> Int[Tensor, " batch"]:
    """Hamming distance of each sample to the nearest row of the corpus, in sites.

    Sites that agree are counted by products of one-hot rows, whole numbers that float32 holds exactly. cells: entries
    of one-hot rows, or of their products, that are held at once; memory grows with neither set.
    """
    length, letters = samples.shape[1], samples.unique()
    rows = max(cells // max(length * len(letters), 1), 1)
    nearest = torch.full((len(samples),), length, device=samples.device)
    for part, found in zip(samples.split(rows), nearest.split(rows), strict=True):
        asked = _one_hot(part, letters)
        for others in corpus.split(max(min(rows, cells // len(part)), 1)):
            agreeing = (asked @ _one_hot(others, letters).T).amax(1).long()
            torch.minimum(found, length - agreeing, out=found)
    return nearest


def _one_hot(tokens: Tokens, letters: Int[Tensor, " letters"]) -> Float[Tensor, "batch cells"]:
    """The sites of the first letter, then those of the next."""
    return torch.cat([tokens == letter for letter in letters.tolist()], dim=1).float()


def novelty(samples: Tokens, corpus: Int[Tensor, "corpus length"]) -> float:
    """Share of the samples that are not in the corpus."""
    return float((nearest_distance(samples, corpus) > 0).double().mean())


def kmer_counts(tokens: Tokens, k: int, size: int) -> Int[Tensor, " kmers"]:
    """How often each of the size^k words of k consecutive tokens occurs; the first letter counts most in the index.

    Raises:
        ValueError: a row is shorter than k, or a token is not below `size`.
    """
    if not 1 <= k <= tokens.shape[1]:
        raise ValueError(f"k={k}: words must have 1 to {tokens.shape[1]} letters, the length of the sequences.")
    if int(tokens.max()) >= size:
        raise ValueError(f"Token {int(tokens.max())} is not below size={size}; give the number of letters.")
    return _words(tokens, k, size).flatten().bincount(minlength=size**k)


def _words(tokens: Tokens, k: int, size: int) -> Int[Tensor, "batch places"]:
    """The index of the word of k tokens that begins at each place."""
    return (tokens.unfold(1, k, 1) * size ** torch.arange(k - 1, -1, -1, device=tokens.device)).sum(-1)


def kmer_correlation(samples: Tokens, reference: Int[Tensor, "reference length"], k: int, size: int) -> float:
    """Pearson correlation of the k-mer counts of two sets of sequences; NaN if one of them has all counts equal."""
    first, second = (kmer_counts(tokens, k, size).double() for tokens in (samples, reference))
    return float(_correlation(first, second))


def kmer_correlations(
    samples: Tokens, reference: Int[Tensor, "reference length"], k: int, size: int
) -> Float[Tensor, " batch"]:
    """The same of each sample by itself; NaN where all its counts are equal."""
    counts = kmer_counts(reference, k, size).double()
    each = [
        _correlation(_counts_by_row(part, k, size).double(), counts) for part in samples.split(max(CELLS // size**k, 1))
    ]
    return torch.cat(each)


def _counts_by_row(tokens: Tokens, k: int, size: int) -> Int[Tensor, "batch kmers"]:
    words = _words(tokens, k, size)
    return torch.zeros(len(tokens), size**k, dtype=torch.long).scatter_add_(1, words, torch.ones_like(words))


def letter_share(tokens: Tokens, letters: Sequence[int]) -> Float[Tensor, " batch"]:
    """The share of the sites of each row that hold one of the letters, such as G and C."""
    return torch.isin(tokens, torch.tensor(letters, device=tokens.device)).double().mean(1)


def _correlation(first: Float[Tensor, "*rows n"], second: Float[Tensor, " n"]) -> Float[Tensor, "*rows"]:
    first, second = first - first.mean(-1, keepdim=True), second - second.mean()
    return (first * second).sum(-1) / (first.square().sum(-1) * second.square().sum()).sqrt()
