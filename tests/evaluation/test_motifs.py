"""Files of motifs, thresholds against all words, hits against a scan letter by letter, and rank correlations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sepo.evaluation.motif_hits import Scan, hit_correlation, motif_hits, ranks, survival_of
from sepo.evaluation.motifs import Motifs, read_motifs
from tests.evaluation.motif_files import MEME, write_jaspar

TOKENS = torch.randint(4, (12, 30), generator=torch.Generator().manual_seed(0))
SKEWED = (0.3, 0.2, 0.15, 0.35)


@pytest.fixture(scope="module")
def motifs(tmp_path_factory) -> Motifs:
    pytest.importorskip("Bio", exc_type=ImportError)
    return read_motifs(write_jaspar(tmp_path_factory.mktemp("motifs") / "jaspar.txt"))


def word_score(scan: Scan, matrix: torch.Tensor, word: tuple[int, ...]) -> int:
    """By the definition, one letter at a time."""
    return sum(
        round(math.log2((float(matrix[letter, place]) + scan.pseudocount) / scan.background[letter]) / scan.bin_size)
        for place, letter in enumerate(word)
    )


def test_counts_become_probabilities(motifs) -> None:
    assert motifs.names == ("TST0001.1", "TST0002.1", "TST0003.1")
    assert motifs.matrices[0][:, 0].tolist() == [0, 0.05, 0.05, 0.9]
    assert [matrix.shape[1] for matrix in motifs.matrices] == [4, 5, 6]


def test_meme_probabilities_are_kept_as_they_are(tmp_path) -> None:
    (tmp_path / "some.meme").write_text(MEME)
    found = read_motifs(tmp_path / "some.meme")
    assert found.names == ("TST1", "TST2")
    torch.testing.assert_close(found.matrices[1][:, 0], torch.tensor([0.125, 0.33, 0.083, 0.462]).double())
    assert found.matrices[0].shape == (4, 3)


@pytest.mark.parametrize("background", [(0.25,) * 4, SKEWED])
def test_the_law_of_a_score_is_that_over_all_words(motifs, background) -> None:
    scan = Scan(background=background)
    for matrix in motifs.matrices:
        lowest, survival = survival_of(scan.rounded(matrix), background)
        words = list(itertools.product(range(4), repeat=matrix.shape[1]))
        scores = torch.tensor([word_score(scan, matrix, word) for word in words])
        chance = torch.tensor([math.prod(background[letter] for letter in word) for word in words], dtype=torch.double)
        for step in range(0, len(survival), 7):
            exact = float(chance[scores >= lowest + step].sum())
            assert survival[step] == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("p", [1e-3, 0.02])
def test_the_threshold_is_the_smallest_score_that_is_rare_enough(motifs, p) -> None:
    scan = Scan(p=p)
    for matrix in motifs.matrices:
        words = itertools.product(range(4), repeat=matrix.shape[1])
        scores = torch.tensor([word_score(scan, matrix, word) for word in words])
        threshold = scan.threshold(scan.rounded(matrix))
        if threshold is None:
            assert float((scores == scores.max()).double().mean()) >= p
        else:
            assert float((scores >= threshold).double().mean()) < p <= float((scores >= threshold - 1).double().mean())


def test_a_motif_too_short_to_be_rare_has_no_hit(motifs) -> None:
    assert Scan().threshold(Scan().rounded(motifs.matrices[0])) is None  # 4 letters: 1 in 256 at best
    assert int(motif_hits(torch.tensor([[3, 0, 3, 0, 0]]), motifs)[0, 0]) == 0


@pytest.mark.parametrize("scan", [Scan(), Scan(p=0.02), Scan(p=0.05, both_strands=False, background=SKEWED)])
def test_hits_are_those_of_a_scan_letter_by_letter(motifs, scan) -> None:
    expected = torch.zeros(len(TOKENS), len(motifs), dtype=torch.long)
    for number, matrix in enumerate(motifs.matrices):
        width = matrix.shape[1]
        for strand in (matrix, matrix.flip(0, 1)) if scan.both_strands else (matrix,):
            threshold = scan.threshold(scan.rounded(strand))
            for row, sequence in enumerate(TOKENS.tolist()):
                for start in range(len(sequence) - width + 1):
                    score = word_score(scan, strand, tuple(sequence[start : start + width]))
                    expected[row, number] += threshold is not None and score >= threshold
    assert torch.equal(motif_hits(TOKENS, motifs, scan), expected)
    if scan.p > 0.01:
        assert int(expected.sum()) > 20


def test_the_reverse_strand_is_scanned(motifs) -> None:
    site = torch.tensor([[1, 2, 1, 0, 1], [2, 3, 2, 1, 2]])  # CGCAC and its reverse complement GTGCG
    forward = motif_hits(site, motifs, Scan(p=0.01, both_strands=False))[:, 1]
    assert forward.tolist() == [1, 0] and motif_hits(site, motifs, Scan(p=0.01))[:, 1].tolist() == [1, 1]


def test_ranks_share_their_mean_and_correlations_follow() -> None:
    assert ranks(torch.tensor([5, 2, 5, 0])).tolist() == [3.5, 2, 3.5, 1]
    hits, reference = torch.tensor([4, 0, 9, 1, 0]), torch.tensor([8, 5, 9, 2, 0])
    assert hit_correlation(hits, reference, in_both=True) == pytest.approx(1)
    stacked = torch.stack([ranks(hits[:4]), ranks(reference[:4])])
    assert hit_correlation(hits, reference) == pytest.approx(float(torch.corrcoef(stacked)[0, 1]))
    assert hit_correlation(hits, reference) < 0.9  # the motif that was lost counts
    assert math.isnan(hit_correlation(hits * 0, reference, in_both=True))


def test_what_is_no_motif_is_named(tmp_path, motifs) -> None:
    with pytest.raises(ValueError, match=r"nothing.txt is not there"):
        read_motifs(tmp_path / "nothing.txt")
    (tmp_path / "bad.meme").write_text(MEME.replace("w= 2", "w= 3"))
    with pytest.raises(ValueError, match=r"bad.meme is no file of motifs .* 'TST2' must have w=3 rows"):
        read_motifs(tmp_path / "bad.meme")
    (tmp_path / "bare.meme").write_text(MEME + "\nMOTIF TST3\n")
    with pytest.raises(ValueError, match=r"'TST3' has no letter-probability matrix"):
        read_motifs(tmp_path / "bare.meme")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"empty.txt"):
        read_motifs(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match=r"'TST0001.1' is there twice"):
        Motifs(motifs.names[:1] * 2, motifs.matrices[:2])
    with pytest.raises(ValueError, match="no table of probabilities"):
        Motifs(("a",), (torch.ones(4, 2),))
    with pytest.raises(ValueError, match=r"Tokens 0 to 4: motifs know 0 to 3"):
        motif_hits(torch.tensor([[0, 4, 0, 0, 0, 0]]), motifs)
    with pytest.raises(ValueError, match="p=1"):
        Scan(p=1.0)
