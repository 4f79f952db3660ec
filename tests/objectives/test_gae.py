"""Generalised advantages against numbers worked out by hand."""

from __future__ import annotations

import torch

from sepo.objectives.gae import generalised_advantage, whitened

VALUE = torch.tensor([[1.0, 2.0, 3.0]])
PRICE = torch.tensor([[0.5, 0.0, -0.5]])
REWARD = torch.tensor([4.0])
EVERY = torch.ones(1, 3, dtype=torch.bool)


def test_three_steps_by_hand():
    """delta = (-0.5 + 2 - 1, 0 + 3 - 2, 0.5 + 4 - 3) = (0.5, 1, 1.5)."""
    half = generalised_advantage(REWARD, PRICE, VALUE, EVERY, 0.5)
    assert half.tolist() == [[0.5 + 0.5 * (1 + 0.5 * 1.5), 1 + 0.5 * 1.5, 1.5]]
    assert generalised_advantage(REWARD, PRICE, VALUE, EVERY, 0.0).tolist() == [[0.5, 1.0, 1.5]]


def test_lambda_one_is_the_return_to_go_less_the_value():
    to_go = torch.tensor([[4.0 - 0.5 - 0.0 + 0.5, 4.0 + 0.5, 4.0 + 0.5]])
    assert torch.equal(generalised_advantage(REWARD, PRICE, VALUE, EVERY, 1.0), to_go - VALUE)


def test_steps_in_which_nothing_appears_do_not_count():
    gap = torch.tensor([[True, False, True, True, False]])
    spread = lambda values: torch.zeros(1, 5).masked_scatter(gap, values)  # noqa: E731
    found = generalised_advantage(REWARD, spread(PRICE), spread(VALUE), gap, 0.5)
    assert torch.equal(found[gap], generalised_advantage(REWARD, PRICE, VALUE, EVERY, 0.5)[0])
    assert (found[~gap] == 0).all()


def test_whitening_has_mean_zero_and_deviation_one_over_what_counts():
    torch.manual_seed(0)
    advantage, counted = torch.randn(6, 5) * 3 + 7, torch.rand(6, 5) < 0.6
    white = whitened(advantage, counted, lambda sums: sums)
    assert (white[~counted] == 0).all()
    assert abs(float(white[counted].mean())) < 1e-6
    assert abs(float(white[counted].std(unbiased=False)) - 1) < 1e-6


def test_halves_of_a_batch_are_whitened_together():
    torch.manual_seed(0)
    advantage, counted = torch.randn(6, 5), torch.rand(6, 5) < 0.6
    sums = []
    for half in (slice(0, 3), slice(3, 6)):
        whitened(advantage[half], counted[half], lambda part: sums.append(part) or part)
    together = [
        whitened(advantage[half], counted[half], lambda part: torch.cat(sums)) for half in (slice(3), slice(3, 6))
    ]
    torch.testing.assert_close(torch.cat(together), whitened(advantage, counted, lambda part: part))


def test_nothing_that_counts_stays_finite():
    none = torch.zeros(2, 3, dtype=torch.bool)
    assert (whitened(torch.ones(2, 3), none, lambda sums: sums) == 0).all()
