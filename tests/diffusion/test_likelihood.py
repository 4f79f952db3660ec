"""Bounds are tight for the ideal denoiser, by integration and by enumeration; their forms are one number."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import bound, denoising_loss, masked_views, path_log_prob
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.schedule import SCHEDULES, LogLinear
from sepo.diffusion.views import read
from sepo.evaluation.exact import all_paths, first_hitting_law, path_probabilities
from sepo.evaluation.worlds import World, at_time, ideal_uniform, markov_chain, random_table, tabular
from sepo.ops import Chance
from tests.worlds import DEEP, SMALL, Written, denoisers

PAIR = World(letters=3, length=2)
LAW = markov_chain(PAIR, seed=4, sharpness=1.5)


def forward_law(process: Process, space: Tensor, x0: Tensor, t: float) -> Tensor:
    """q_t(. | x0) over the rows of `space`, [x0, space]."""
    per_token = process.given_start(x0, process.schedule.alpha(at_time(t, len(x0))))
    return per_token[:, torch.arange(space.shape[1]), space].prod(-1)


def divergence_from_data(process: Process, space: Tensor, t: float) -> Tensor:
    """KL(q_t(. | x0) || p_t) for every x0 of PAIR."""
    q = forward_law(process, space, PAIR.sequences, t)
    marginal = LAW @ q
    return torch.where(q > 0, q * (q.clamp_min(1e-300) / marginal).log(), 0.0).sum(1)


def integrated_score_entropy(policy: Denoiser, space: Tensor, x0: Tensor, nodes: int = 120) -> Tensor:
    """int_0^1 E sum_i score_entropy dt for each row of x0, by Gauss-Legendre in u with t = u^3."""
    points, weights = (torch.tensor(values) for values in np.polynomial.legendre.leggauss(nodes))
    u = (points + 1) / 2
    t, slope = u**3, 3 * u**2 * weights / 2
    log_score = policy.log_score(space.repeat(nodes, 1), t.repeat_interleave(len(space)))
    total = []
    for truth in x0:
        law = torch.cat([forward_law(policy.process, space, truth.unsqueeze(0), float(each))[0] for each in t])
        xt, at = space.repeat(nodes, 1), t.repeat_interleave(len(space))
        integrand = policy.process.score_entropy(log_score, xt, truth.expand(len(xt), -1), at).sum(1)
        expected = torch.where(law > 0, law * integrand, 0.0).view(nodes, -1).sum(1)
        total.append((slope * expected).sum())
    return torch.stack(total)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_score_entropy_of_the_ideal_denoiser_integrates_to_minus_log_p(kind: str, schedule: str) -> None:
    """d/dt KL(q_t(. | x0) || p_t) = -score entropy, so the integral is KL at 0 less KL at 1; at 0 it is -log p(x0)."""
    chosen = SCHEDULES[schedule]()
    policy = ideal_uniform(PAIR, LAW, chosen) if kind == "uniform" else tabular(PAIR, LAW, schedule=chosen)
    space = PAIR.sequences if kind == "uniform" else PAIR.states
    with torch.no_grad():
        integral = integrated_score_entropy(policy, space, PAIR.sequences[::2])
    start, end = (divergence_from_data(policy.process, space, t)[::2] for t in (0.0, 1.0))
    torch.testing.assert_close(integral, start - end, rtol=1e-5, atol=1e-5)
    if schedule != "geometric":  # which leaves some noise at t = 0
        torch.testing.assert_close(start, -LAW[::2].log(), rtol=1e-6, atol=1e-6)


def counted(policy: Denoiser, x0: Tensor) -> Tensor:
    """The count form of the bound for one sequence by enumeration of counts and masks, through the library's views."""
    length = x0.shape[0]
    orders = torch.tensor(list(permutations(range(length)))).double() / length
    counts = (torch.arange(length) + 0.5).double() / length
    numbers = torch.cat([counts.repeat_interleave(len(orders)).unsqueeze(1), orders.repeat(length, 1)], dim=1)
    x0 = x0.expand(len(numbers), -1)
    free = torch.ones_like(x0, dtype=torch.bool)
    return denoising_loss(policy, x0, free, Written.down(numbers.unsqueeze(1)), draws=1).mean()


@pytest.mark.parametrize("name", ["ideal", "noisy", "arbitrary"])
def test_the_integral_of_the_score_entropy_is_the_count_form_for_any_network(name: str) -> None:
    policy = denoisers(PAIR)[name]
    almost_to_the_end = replace(policy, process=PAIR.absorbing(LogLinear(eps=1e-9)))
    with torch.no_grad():
        integral = integrated_score_entropy(almost_to_the_end, PAIR.states, PAIR.sequences[:4], nodes=30)
        count_form = torch.stack([counted(policy, x0) for x0 in PAIR.sequences[:4]])
    torch.testing.assert_close(integral, count_form, rtol=1e-6, atol=1e-6)


def test_the_count_form_is_minus_log_p_for_the_ideal_denoiser_and_above_it_for_others() -> None:
    law = markov_chain(SMALL, seed=1)
    for name, policy in denoisers(SMALL).items():
        nats = torch.stack([counted(policy, x0) for x0 in SMALL.sequences]).detach()
        sampler = -first_hitting_law(policy, SMALL).log().detach()
        assert (nats >= sampler - 1e-9).all()
        if name == "ideal":
            torch.testing.assert_close(nats, -law.log())
        else:
            assert (nats - sampler).max() > 0.01


def test_stratified_views_visit_every_count_once_and_share_the_weight() -> None:
    x0 = torch.zeros(50, 4, dtype=torch.long)
    views = masked_views(x0, x0 == 0, None, Absorbing(3, 2), Chance.of(0, 50), views=4)
    assert ((views.xt == 2).sum(-1) == torch.tensor([1, 2, 3, 4])).all()
    torch.testing.assert_close(views.weight.sum(-1), torch.ones(50, 4))
    assert ((views.weight != 0) == (views.xt == 2)).all()


def test_views_are_read_at_the_time_at_which_as_many_masks_are_expected() -> None:
    x0 = torch.zeros(50, 4, dtype=torch.long)
    process = Absorbing(3, 2)
    views = masked_views(x0, x0 == 0, None, process, Chance.of(0, 50), views=4)
    expected = (1 - process.schedule.alpha(views.t)) / (1 - process.schedule.alpha(torch.ones(())))
    torch.testing.assert_close(expected, torch.tensor([0.25, 0.5, 0.75, 1.0]).expand(50, -1))


def test_only_free_sites_are_masked_and_a_row_without_any_costs_nothing() -> None:
    x0 = torch.zeros(3, 3, dtype=torch.long)
    free = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    policy = tabular(SMALL, markov_chain(SMALL))
    views = masked_views(x0, free, None, SMALL.absorbing(), Chance.of(0, 3), views=3)
    assert not ((views.xt == 3) & ~free.unsqueeze(1)).any()
    nats = denoising_loss(policy, x0, free, Chance.of(0, 3), draws=3)
    assert nats[1] == 0 and nats.isfinite().all() and (nats[[0, 2]] > 0).all()


@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_the_loss_drawn_over_time_has_the_integral_as_its_mean(kind: str) -> None:
    """Networks that see the time: within four standard errors, and the slope reaches the network."""
    x0 = PAIR.sequences[5:6]
    if kind == "uniform":
        policy = ideal_uniform(PAIR, LAW)
        expected = integrated_score_entropy(policy, PAIR.sequences, x0)
    else:
        policy = replace(random_table(PAIR), time_free=False)
        expected = integrated_score_entropy(policy, PAIR.states, x0)
    batch = x0.expand(1000, -1)
    drawn = denoising_loss(policy, batch, batch >= 0, Chance.of(0, 1000), draws=4)
    error = drawn.detach().std() / len(drawn) ** 0.5
    assert (drawn.mean() - expected).detach().abs() < 4 * error
    drawn.mean().backward()
    slopes = next(policy.network.parameters()).grad
    assert slopes is not None and slopes.isfinite().all() and slopes.abs().sum() > 0


def test_given_sites_cost_nothing_under_the_uniform_process() -> None:
    policy, x0 = ideal_uniform(PAIR, LAW), PAIR.sequences
    none, first = torch.zeros_like(x0, dtype=torch.bool), torch.tensor([True, False]).expand(9, -1)
    assert (denoising_loss(policy, x0, none, Chance.of(0, 9)) == 0).all()
    part, whole = (denoising_loss(policy, x0, free, Chance.of(0, 9), draws=20).mean() for free in (first, x0 >= 0))
    assert 0 < part < whole


def test_the_bound_has_no_gradient_and_counts_its_draws() -> None:
    policy = tabular(SMALL, markov_chain(SMALL))
    x0 = SMALL.sequences[:6]
    nats = bound(policy, x0, x0 >= 0, Chance.of(0, 6), draws=5)
    assert not nats.requires_grad
    assert policy.meter.evaluations == 30 and policy.meter.with_gradient == 0


@pytest.mark.parametrize("name", ["ideal", "noisy", "arbitrary"])
def test_path_probabilities_sum_to_the_law_of_the_sampler(name: str) -> None:
    for world in (SMALL, DEEP):
        policy, paths = denoisers(world)[name], all_paths(world)
        summed = torch.zeros(len(world.sequences), dtype=torch.double)
        summed = summed.index_add(0, world.index(paths.x0), path_probabilities(policy, paths).detach())
        torch.testing.assert_close(summed, first_hitting_law(policy, world).detach())


def test_path_log_prob_reads_each_state_once_however_it_is_split() -> None:
    policy, paths = random_table(SMALL), all_paths(SMALL)
    whole = path_log_prob(policy, paths)
    assert policy.meter.evaluations == 3 * len(paths)
    torch.testing.assert_close(path_log_prob(policy, paths, at_once=7), whole)


def test_path_log_prob_with_several_sites_in_a_step_reads_them_at_one_state() -> None:
    policy = random_table(SMALL)
    canvas = Canvas(torch.tensor([[1, 0, 0]]), torch.tensor([[False, True, True]]))
    x0 = torch.tensor([[1, 2, 0]])
    path = MaskedPath(canvas, x0, torch.tensor([[-1, 4, 4]]), torch.full((1, 6), 0.5), torch.zeros(1, 3))
    law = policy.log_posterior(torch.tensor([[1, 3, 3]]), torch.tensor([0.5]))[0].float()
    expected = torch.stack([torch.tensor(0.0), law[1, 2], law[2, 0]])
    torch.testing.assert_close(path_log_prob(policy, path)[0], expected)


def test_a_masked_path_needs_the_absorbing_process() -> None:
    with pytest.raises(ValueError, match=r"absorbing process.*Uniform"):
        path_log_prob(ideal_uniform(SMALL, markov_chain(SMALL)), all_paths(SMALL))


def test_reading_whole_laws_or_weighted_sites_gives_the_same_log_probabilities() -> None:
    policy = random_table(SMALL)
    x0 = SMALL.sequences
    views = masked_views(x0, x0 >= 0, None, SMALL.absorbing(), Chance.of(0, len(x0)), views=2)
    part, whole = read(policy, views), read(policy, views, whole=True)
    assert torch.equal(part.log_prob, whole.log_prob) and part.log_law is None
    assert whole.log_law is not None and whole.log_law.shape == (27, 2, 3, 4)
    assert (part.log_prob[views.weight == 0] == 0).all()
