"""The five metrics: each published number by its own definition, and that duplicates and lost motifs flatter them."""

from __future__ import annotations

import pytest
import torch

from sepo.diffusion.likelihood import bound
from sepo.evaluation.enhancers import Designed, corrected_metrics, log_likelihoods, published_metrics
from sepo.evaluation.grid_likelihood import grid_log_likelihood
from sepo.evaluation.worlds import World, random_table
from sepo.ops import Chance

RANDOM = torch.Generator().manual_seed(0)
REFERENCE = torch.randint(4, (9, 12), generator=RANDOM)
TOKENS = torch.randint(4, (6, 12), generator=RANDOM)
ACTIVITY = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
ACCESS = torch.tensor([[0.9, 0.1], [0.9, 0.6], [0.2, 0.7], [0.9, 0.4], [0.9, 0.2], [0.1, 0.8]])
HITS = torch.tensor([[1, 0, 2], [0, 0, 1], [1, 0, 0], [3, 0, 1], [0, 0, 0], [0, 0, 2]])
HITS_OF_REFERENCE = torch.tensor([3, 9, 4])


def found(rows: list[int]) -> Designed:
    chosen = torch.tensor(rows)
    every = (TOKENS, ACTIVITY, ACCESS, HITS, -ACTIVITY.double(), -2 * ACTIVITY.double())
    return Designed(*(each[chosen] for each in every))


def test_published_numbers_are_those_of_their_definitions() -> None:
    metrics = published_metrics(found([0, 1, 2, 3, 4, 5]), REFERENCE, HITS_OF_REFERENCE)
    assert metrics.pred_activity == 3.5 and metrics.atac_accuracy == 0.5 and metrics.log_likelihood == -3.5
    counts: dict[tuple[int, ...], list[int]] = {}
    for side, rows in enumerate((TOKENS.tolist(), REFERENCE.tolist())):
        for row in rows:
            for start in range(len(row) - 2):
                counts.setdefault(tuple(row[start : start + 3]), [0, 0])[side] += 1
    stacked = torch.tensor(list(counts.values())).double().T
    assert metrics.kmer_correlation == pytest.approx(float(torch.corrcoef(stacked)[0, 1]))
    assert len(counts) < 64
    assert metrics.motif_correlation == pytest.approx(1)  # of two motifs; the lost one does not count


def test_the_column_of_another_cell_line_gives_another_number() -> None:
    assert published_metrics(found([0, 1, 2, 3, 4, 5]), REFERENCE, column=0).atac_accuracy == pytest.approx(4 / 6)


def test_the_corrected_ones_count_a_sequence_once_and_a_lost_motif() -> None:
    once, often = found([0, 1, 2, 3, 4, 5]), found([5, 0, 5, 1, 5, 2, 3, 5, 4, 5, 5])
    assert corrected_metrics(once, REFERENCE, HITS_OF_REFERENCE) == corrected_metrics(
        often, REFERENCE, HITS_OF_REFERENCE
    )
    assert published_metrics(often, REFERENCE).pred_activity == 9 > 3.5
    metrics = corrected_metrics(once, REFERENCE, HITS_OF_REFERENCE)
    assert metrics.pred_activity == 3.5 and metrics.log_likelihood == -7
    assert metrics.motif_correlation == pytest.approx(-0.5)  # ranks 2, 1, 3 against 1, 3, 2
    assert sorted(often.distinct().activity.tolist()) == ACTIVITY.tolist()


def test_what_was_not_given_is_not_reported() -> None:
    metrics = corrected_metrics(Designed(TOKENS, ACTIVITY, ACCESS), REFERENCE)
    assert metrics.motif_correlation is None and metrics.log_likelihood is None
    assert set(metrics.named("_published")) == {
        "pred_activity_published",
        "atac_accuracy_published",
        "kmer_correlation_published",
    }


def test_both_bounds_are_those_of_their_modules() -> None:
    world = World(4, 3)
    policy, x0 = random_table(world), world.sequences[:10]
    coarse, fine = log_likelihoods(policy, x0, draws=4, seed=2, at_once=3)
    torch.testing.assert_close(coarse, grid_log_likelihood(policy, x0, seed=2))
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    torch.testing.assert_close(fine, -bound(policy, x0, everywhere, Chance.seeded(2, range(10), 1), draws=4))
