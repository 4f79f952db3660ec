"""Effective sample size and what is left after resampling, against enumeration of all draws."""

from __future__ import annotations

import itertools

import pytest
import torch

from sepo.evaluation.particles import distinct_after_resampling, effective_sample_size

TOKENS = torch.tensor([[0, 1], [2, 2], [0, 1], [3, 0]])
LOG_WEIGHTS = torch.tensor([0.0, 1.0, -2.0, 0.5])


def test_equal_weights_count_in_full_and_one_heavy_weight_counts_once() -> None:
    assert effective_sample_size(torch.full((7,), 900.0)) == pytest.approx(7)
    assert effective_sample_size(torch.tensor([0.0, -800.0, -torch.inf])) == pytest.approx(1)
    weights = LOG_WEIGHTS.double().exp()
    assert effective_sample_size(LOG_WEIGHTS) == pytest.approx(float(weights.sum() ** 2 / weights.square().sum()))


@pytest.mark.parametrize("number", [1, 2, 3, None])
def test_the_share_of_distinct_sequences_is_that_over_all_draws(number: int | None) -> None:
    weights = LOG_WEIGHTS.double().softmax(0)
    drawn = number or len(TOKENS)
    exact = 0.0
    for rows in itertools.product(range(4), repeat=drawn):
        probability = float(weights[list(rows)].prod())
        exact += probability * len(TOKENS[list(rows)].unique(dim=0)) / drawn
    assert distinct_after_resampling(TOKENS, LOG_WEIGHTS, number) == pytest.approx(exact)


def test_weights_that_are_none_are_named() -> None:
    with pytest.raises(ValueError, match="largest of 2 log-weights is -inf"):
        effective_sample_size(torch.tensor([-torch.inf, -torch.inf]))
    with pytest.raises(ValueError, match="is nan"):
        effective_sample_size(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="number=0"):
        distinct_after_resampling(TOKENS, LOG_WEIGHTS, 0)
