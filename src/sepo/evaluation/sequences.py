"""Sets of sequences compared: how different from each other, from a corpus, and in their k-mers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepo.typing import Int, Tokens


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


def nearest_distance(samples: Tokens, corpus: Int[Tensor, "corpus length"], at_once: int = 64) -> Int[Tensor, " batch"]:
    """Hamming distance of each sample to the nearest row of the corpus, in sites."""
    nearest = [(part.unsqueeze(1) != corpus).sum(-1).amin(1) for part in samples.split(at_once)]
    return torch.cat(nearest)


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
    words = tokens.unfold(1, k, 1) * size ** torch.arange(k - 1, -1, -1, device=tokens.device)
    return words.sum(-1).flatten().bincount(minlength=size**k)


def kmer_correlation(samples: Tokens, reference: Int[Tensor, "reference length"], k: int, size: int) -> float:
    """Pearson correlation of the k-mer counts of two sets of sequences; NaN if one of them has all counts equal."""
    first, second = (kmer_counts(tokens, k, size).double() for tokens in (samples, reference))
    return float(_correlation(first, second))


def _correlation(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> Tensor:
    first, second = first - first.mean(), second - second.mean()
    return (first * second).sum() / (first.square().sum() * second.square().sum()).sqrt()
