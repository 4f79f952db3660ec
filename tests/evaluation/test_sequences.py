"""Diversity, novelty and k-mers against brute force."""

from __future__ import annotations

import pytest
import torch

from sepo.evaluation.sequences import (
    distinct_fraction,
    diversity_ratio,
    kmer_correlation,
    kmer_correlations,
    kmer_counts,
    letter_share,
    mean_hamming_distance,
    nearest_distance,
    novelty,
)

TOKENS = torch.randint(4, (30, 12), generator=torch.Generator().manual_seed(0))


def test_the_mean_hamming_distance_is_that_over_all_pairs() -> None:
    pairs = [(a != b).sum().item() for i, a in enumerate(TOKENS) for b in TOKENS[:i]]
    assert mean_hamming_distance(TOKENS) == pytest.approx(sum(pairs) / len(pairs))


def test_equal_sequences_have_no_diversity_and_the_reference_has_ratio_one() -> None:
    assert mean_hamming_distance(TOKENS[:1].expand(5, -1)) == 0
    assert diversity_ratio(TOKENS, TOKENS) == pytest.approx(1)
    assert diversity_ratio(TOKENS[:1].expand(5, -1), TOKENS) == 0


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(ValueError, match=r"1 sequences make no pairs"):
        mean_hamming_distance(TOKENS[:1])
    with pytest.raises(ValueError, match=r"reference sequences are the same"):
        diversity_ratio(TOKENS, TOKENS[:1].expand(5, -1))


def test_distinct_and_novel_count_rows() -> None:
    doubled = torch.cat([TOKENS, TOKENS[:10]])
    assert distinct_fraction(doubled) == pytest.approx(30 / 40)
    assert novelty(doubled, TOKENS[:20]) == pytest.approx(10 / 40)


def test_the_nearest_distance_is_the_smallest_over_the_corpus() -> None:
    corpus = TOKENS[10:] + (torch.arange(20) % 3 == 0).unsqueeze(1) * 7  # some letters that no sample has
    expected = (TOKENS.unsqueeze(1) != corpus).sum(-1).amin(1)
    assert torch.equal(nearest_distance(TOKENS, corpus), expected)


@pytest.mark.parametrize("cells", [1, 4 * 12 * 7, 31])
def test_the_nearest_distance_does_not_depend_on_what_is_held_at_once(cells: int) -> None:
    corpus = TOKENS.flip(1)
    assert torch.equal(nearest_distance(TOKENS, corpus, cells), (TOKENS.unsqueeze(1) != corpus).sum(-1).amin(1))


@pytest.mark.parametrize("k", [1, 3])
def test_words_are_counted_with_their_first_letter_counting_most(k: int) -> None:
    counts = torch.zeros(4**k, dtype=torch.long)
    for row in TOKENS.tolist():
        for start in range(12 - k + 1):
            counts[sum(letter * 4 ** (k - 1 - place) for place, letter in enumerate(row[start : start + k]))] += 1
    assert torch.equal(kmer_counts(TOKENS, k, 4), counts)


def test_the_correlation_of_counts_is_pearsons() -> None:
    other = TOKENS.flip(0)[:20]
    stacked = torch.stack([kmer_counts(TOKENS, 2, 4), kmer_counts(other, 2, 4)]).double()
    assert kmer_correlation(TOKENS, other, 2, 4) == pytest.approx(torch.corrcoef(stacked)[0, 1].item())
    assert kmer_correlation(TOKENS, TOKENS, 2, 4) == pytest.approx(1)


def test_each_sample_has_the_correlation_of_its_own_counts() -> None:
    expected = [kmer_correlation(row, TOKENS, 2, 4) for row in TOKENS.split(1)]
    assert kmer_correlations(TOKENS, TOKENS, 2, 4).tolist() == pytest.approx(expected)
    assert kmer_correlations(torch.arange(12).view(1, 12), TOKENS, 1, 12).isnan().all()


def test_the_share_of_letters_is_that_of_the_sites() -> None:
    expected = [sum(token in (1, 2) for token in row) / 12 for row in TOKENS.tolist()]
    assert letter_share(TOKENS, (1, 2)).tolist() == pytest.approx(expected)


def test_words_longer_than_the_sequence_and_foreign_letters_are_named() -> None:
    with pytest.raises(ValueError, match=r"k=13.*1 to 12"):
        kmer_counts(TOKENS, 13, 4)
    with pytest.raises(ValueError, match=r"Token 3 .*size=3"):
        kmer_counts(TOKENS, 2, 3)
