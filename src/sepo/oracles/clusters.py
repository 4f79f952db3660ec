"""Clusters of related sequences: whoever shares a stretch of letters is linked, and what is linked belongs together.

Single linkage, so that no two sequences of different clusters share such a stretch: exact, for all pairs, without
comparing pairs. All stretches of all sequences are sorted as integers, neighbours in that order are linked, and the
clusters are the connected components of the links, as in hashFrag (Detecting and avoiding homology-based data leakage
in genome-trained sequence models, bioRxiv 2025.01.22.634321), where the links are local alignments. Two sequences of
length L with m substitutions between them share a stretch of (L - m) / (m + 1) letters, rounded up: of 24 letters with
up to 7 in 200.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from jaxtyping import Bool, Int64, UInt64
from torch import Tensor

from sepo.oracles.alphabet import ALPHABETS
from sepo.typing import Int

LEAST = 4
"""Letters below which any two sequences would be related."""
PERIODS = (1, 2, 3)
"""What repeats so many letters over and over relates nobody."""
Codes = UInt64[np.ndarray, "sequences stretches"]


def clusters(tokens: Int[Tensor, "sequences length"], letters: str, stretch: int) -> list[str]:
    """The cluster of each sequence: cluster_1 is the largest, then cluster_2, ...; of equal size the earlier one first.

    In one cluster are any two sequences that are equal, or have `stretch` consecutive letters in common, wherever these
    stand (of DNA, on either strand). Ends that are the same in all sequences, such as primers, do not count, nor does a
    stretch of which more than half is one, two or three letters over and over.

    Raises:
        ValueError: the stretch is too short, too long for the sequences, or for 64 bits.
    """
    longest = min(tokens.shape[1], int(64 / np.log2(len(letters)) + 1e-9))
    if not LEAST <= stretch <= longest:
        raise ValueError(
            f"cluster={stretch}: must be {LEAST} to {longest} letters, for {len(letters)} letters and sequences of "
            f"{tokens.shape[1]}; 24 suits DNA, 10 proteins."
        )
    rows = tokens.numpy().astype(np.uint8)
    found = _equal(rows)
    inner = _without_common_ends(rows)
    if inner.shape[1] >= stretch:
        codes = _codes(inner, len(letters), stretch, letters == ALPHABETS["dna"].letters)
        found = _linked(found, *_links(codes, ~_repetitive(inner, stretch)))
    return _named(found)


def _equal(rows: np.ndarray) -> Int64[np.ndarray, " sequences"]:
    """Of each sequence the first one that equals it."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(row.tobytes(), place) for place, row in enumerate(rows)], np.int64)


def _without_common_ends(rows: np.ndarray) -> np.ndarray:
    varying = np.flatnonzero((rows != rows[:1]).any(0))
    return rows[:, varying[0] : varying[-1] + 1] if len(varying) else rows[:, :0]


def _codes(rows: np.ndarray, size: int, stretch: int, either_strand: bool) -> Codes:
    """Each stretch as a number in base `size`; of DNA the lower of its own and that of its reverse complement."""
    number = rows.shape[1] - stretch + 1
    forward, backward = (np.zeros((len(rows), number), np.uint64) for _ in range(2))
    for place in range(stretch):
        letter = rows[:, place : place + number].astype(np.uint64)
        forward = forward * np.uint64(size) + letter
        if either_strand:
            backward += (np.uint64(size - 1) - letter) * np.uint64(size**place)
    return np.minimum(forward, backward) if either_strand else forward


def _repetitive(rows: np.ndarray, stretch: int) -> Bool[np.ndarray, "sequences stretches"]:
    """Whether more than half of a stretch, in one piece, is the same when it is moved by one of PERIODS."""
    most = stretch // 2 + 1
    found = np.zeros((len(rows), rows.shape[1] - most + 1), bool)
    for period in PERIODS:
        if 2 * period <= most:
            same = rows[:, period:] == rows[:, :-period]
            found |= _counted(same, most - period) == most - period
    return _counted(found, stretch - most + 1) > 0


def _counted(marks: np.ndarray, width: int) -> np.ndarray:
    """How many are marked in each window of so many."""
    sums = np.pad(np.cumsum(marks, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    return sums[:, width:] - sums[:, : sums.shape[1] - width]


def _links(codes: np.ndarray, counts: np.ndarray) -> tuple[Int64[np.ndarray, " links"], Int64[np.ndarray, " links"]]:
    """Pairs of sequences, so many that all with the same code are connected. counts: marks the codes that relate."""
    owners = np.repeat(np.arange(len(codes)), counts.sum(1))
    found = codes[counts]
    order = np.argsort(found)
    same = np.flatnonzero(found[order[1:]] == found[order[:-1]])
    first, second = owners[order[same]], owners[order[same + 1]]
    different = first != second
    return first[different], second[different]


def _linked(
    found: Int64[np.ndarray, " sequences"], first: Int64[np.ndarray, " links"], second: Int64[np.ndarray, " links"]
) -> Int64[np.ndarray, " sequences"]:
    """Of each sequence the first one that is connected with it: the roots of linked trees are hung under the lower."""
    while len(first):
        lower, higher = np.minimum(found[first], found[second]), np.maximum(found[first], found[second])
        np.minimum.at(found, higher, lower)
        while (found != found[found]).any():
            found = found[found]
        apart = found[first] != found[second]
        first, second = first[apart], second[apart]
    return found


def _named(found: Int64[np.ndarray, " sequences"]) -> list[str]:
    sizes = Counter(found.tolist())
    ranks = {root: rank for rank, root in enumerate(sorted(sizes, key=lambda root: (-sizes[root], root)), 1)}
    return [f"cluster_{ranks[root]}" for root in found.tolist()]
