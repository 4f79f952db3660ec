"""The bound on a time grid: its mean over all masks, its place below log p, and that parts make a whole."""

from __future__ import annotations

import itertools

import pytest
import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.bounds import held_out_bound
from sepo.evaluation.exact import kernel_law
from sepo.evaluation.grid_likelihood import grid, grid_log_likelihood
from sepo.evaluation.worlds import World, at_time, ideal_uniform, markov_chain, random_table, tabular
from sepo.samplers import Ancestral
from tests.worlds import SMALL


def expected(policy: Denoiser, world: World, steps: int) -> torch.Tensor:
    """The mean over all masks of every sequence of the world: probability times log-probabilities, summed."""
    _, shares, weights = grid(policy, steps)
    total = torch.zeros(len(world.sequences), dtype=torch.double)
    for marks in itertools.product([False, True], repeat=world.length):
        masked = torch.tensor(marks).expand_as(world.sequences)
        state = world.sequences.masked_fill(masked, world.letters)
        law = policy.log_posterior(state, at_time(0.5, len(state))).detach()
        rated = law.gather(-1, world.sequences.unsqueeze(-1)).squeeze(-1).masked_fill(~masked, 0.0).sum(1)
        probability = shares ** sum(marks) * (1 - shares) ** (world.length - sum(marks))
        total += (probability * weights).sum() * rated
    return total


@pytest.mark.parametrize("policy", [tabular(SMALL, markov_chain(SMALL)), random_table(SMALL)])
def test_its_mean_is_that_over_all_masks(policy: Denoiser) -> None:
    exact = expected(policy, SMALL, steps=16)
    rows = torch.arange(0, 27, 5)
    drawn = grid_log_likelihood(policy, SMALL.sequences[rows].repeat(400, 1), steps=16, at_once=5000).view(400, -1)
    error = drawn.std(0) / 400**0.5
    assert bool(((drawn.mean(0) - exact[rows]).abs() < 4.5 * error).all())
    assert float(error.max()) < 0.15


def test_it_lies_below_the_likelihood_of_the_sampler_on_the_same_grid() -> None:
    policy = tabular(SMALL, markov_chain(SMALL), noise=0.5)
    exact = kernel_law(Ancestral(128), policy, SMALL).log().detach()
    bound = expected(policy, SMALL, steps=128)
    slack = exact - bound
    assert float(slack.min()) > -0.01  # the share of 1e-3 that the grid leaves out
    assert float(slack.max()) > 0.01


def test_a_finer_grid_meets_the_count_form() -> None:
    policy, x0 = random_table(SMALL), SMALL.sequences
    mean = float(expected(policy, SMALL, steps=512).mean())
    counted = held_out_bound(policy, x0.repeat(300, 1), draws=3, at_once=9000)
    assert -mean == pytest.approx(counted.nats_per_sequence, abs=0.03)


def test_parts_make_the_whole_and_more_draws_go_on() -> None:
    policy, x0 = random_table(SMALL), SMALL.sequences
    whole = grid_log_likelihood(policy, x0, steps=8, seed=3)
    halves = [
        grid_log_likelihood(policy, x0[:10], steps=8, seed=3, at_once=3),
        grid_log_likelihood(policy, x0[10:], steps=8, seed=3, first=10),
    ]
    torch.testing.assert_close(torch.cat(halves), whole)
    twice = grid_log_likelihood(policy, x0, steps=8, seed=3, draws=2)
    assert not torch.equal(twice, whole) and grid_log_likelihood(policy, x0[:0]).shape == (0,)


def test_evaluations_are_counted_and_other_processes_refused() -> None:
    policy = random_table(SMALL)
    grid_log_likelihood(policy, SMALL.sequences[:5], steps=4, draws=3)
    assert policy.meter.evaluations == 5 * 4 * 3
    with pytest.raises(ValueError, match="needs the absorbing process, but the model's is Uniform"):
        grid_log_likelihood(ideal_uniform(SMALL, markov_chain(SMALL)), SMALL.sequences)
    with pytest.raises(ValueError, match="draws=0"):
        grid_log_likelihood(policy, SMALL.sequences, draws=0)
