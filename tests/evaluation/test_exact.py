"""Exact answers against brute force, and the optimum against its definition."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from sepo.evaluation.exact import (
    all_paths,
    expected_reward,
    first_hitting_law,
    kernel_law,
    kl,
    optimum,
    path_divergence,
    path_probabilities,
    rated,
    shares,
    total_variation,
    transition,
    visits,
)
from sepo.evaluation.values import best_law
from sepo.evaluation.worlds import World, ideal_uniform, markov_chain, parity, probabilities, random_table
from sepo.samplers import Ancestral
from tests.worlds import DEEP, SMALL, at_step, denoisers


def by_hand(policy: object, world: World) -> torch.Tensor:
    """The mean over all orders of the product of conditionals, sequence by sequence."""
    table = probabilities(policy, world.states).detach()  # type: ignore[arg-type]
    law = torch.zeros(len(world.sequences), dtype=torch.double)
    orders = list(permutations(range(world.length)))
    for row, x0 in enumerate(world.sequences):
        for order in orders:
            state, product = torch.full((world.length,), world.letters), 1.0
            for site in order:
                product *= float(table[world.state_index(state.unsqueeze(0))[0], site, x0[site]])
                state[site] = x0[site]
            law[row] += product / len(orders)
    return law


@pytest.mark.parametrize("world", [SMALL, DEEP], ids=str)
def test_the_sum_over_subsets_is_the_mean_over_orders(world: World) -> None:
    policy = random_table(world, seed=4)
    torch.testing.assert_close(first_hitting_law(policy, world).detach(), by_hand(policy, world))


@pytest.mark.parametrize("name", ["ideal", "noisy", "arbitrary"])
@pytest.mark.parametrize("steps", [1, 2, 3, None])
def test_laws_sum_to_one(name: str, steps: int | None) -> None:
    assert first_hitting_law(denoisers(DEEP)[name], DEEP, steps).sum().item() == pytest.approx(1)


def test_all_sites_at_once_is_the_product_of_marginals() -> None:
    policy = random_table(SMALL)
    law = probabilities(policy, torch.full((1, 3), 3))[0].detach()
    expected = torch.stack([law[site, SMALL.sequences[:, site]] for site in range(3)]).prod(0)
    torch.testing.assert_close(first_hitting_law(policy, SMALL, 1).detach(), expected)


def test_one_grid_step_of_ancestral_is_the_same_product() -> None:
    policy = random_table(SMALL)
    torch.testing.assert_close(
        kernel_law(Ancestral(1), policy, SMALL).detach(), first_hitting_law(policy, SMALL, 1).detach()
    )


def test_ancestral_on_a_fine_grid_approaches_first_hitting_for_any_network() -> None:
    policy = random_table(SMALL)
    with torch.no_grad():
        exact = first_hitting_law(policy, SMALL)
        errors = [float(total_variation(kernel_law(Ancestral(steps), policy, SMALL), exact)) for steps in (64, 128)]
    assert errors[1] < 0.005 and errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_a_start_with_given_tokens_leads_to_the_conditional_law() -> None:
    law, start = markov_chain(DEEP, seed=1), torch.tensor([2, 1, 2, 0])
    found = first_hitting_law(denoisers(DEEP)["ideal"], DEEP, start=start).detach()
    agreeing = (DEEP.sequences[:, 1] == 1) & (DEEP.sequences[:, 3] == 0)
    torch.testing.assert_close(found, torch.where(agreeing, law, 0.0) / law[agreeing].sum())
    paths = all_paths(DEEP, start)
    assert len(paths) == 2 * 4 and (paths.canvas.free == torch.tensor([True, False, True, False])).all()
    assert path_probabilities(denoisers(DEEP)["ideal"], paths).sum().item() == pytest.approx(1)


def test_visits_are_probabilities_of_each_level() -> None:
    policy = random_table(SMALL)
    weight, masks = visits(policy, SMALL).detach(), (SMALL.states == 3).sum(1)
    for left in range(4):
        assert weight[masks == left].sum().item() == pytest.approx(1)


def test_shares_are_equal_to_one_and_follow_the_steps() -> None:
    assert shares(4, None) == [1, 1, 1, 1] and shares(3, 7) == [1, 1, 1]
    assert shares(5, 2) == [3, 2] and shares(6, 4) == [2, 1, 2, 1]


def test_a_transition_matrix_has_rows_that_sum_to_one() -> None:
    policy = ideal_uniform(SMALL, markov_chain(SMALL))
    matrix = transition(
        Ancestral(4).kernel(policy, SMALL.sequences, at_step(1, SMALL.sequences)).detach(), SMALL.sequences
    )
    torch.testing.assert_close(matrix.sum(1), torch.ones(27, dtype=torch.double), rtol=0, atol=1e-6)


def test_the_gradient_of_the_expected_reward_is_its_finite_difference() -> None:
    policy, reward = random_table(SMALL), parity(SMALL)
    table = policy.network.logits
    (gradient,) = torch.autograd.grad(expected_reward(policy, SMALL, reward), [table])
    direction = torch.randn(table.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    with torch.no_grad():
        values = []
        for step in (1e-5, -2e-5):
            table += step * direction
            values.append(float(expected_reward(policy, SMALL, reward)))
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_path_divergence_is_the_sum_over_paths_and_bounds_that_of_the_samples() -> None:
    policy, reference = denoisers(SMALL)["noisy"], random_table(SMALL, seed=9)
    paths = all_paths(SMALL)
    first, second = rated(policy, paths), rated(reference, paths)
    summed = path_probabilities(policy, paths) @ (first.log_prob - second.log_prob).sum(1)
    exact = path_divergence(policy, reference, SMALL)
    torch.testing.assert_close(summed, exact)
    of_samples = kl(first_hitting_law(policy, SMALL), first_hitting_law(reference, SMALL))
    assert 0 < float(of_samples.detach()) < float(exact.detach())
    assert float(path_divergence(policy, policy, SMALL).detach()) == pytest.approx(0, abs=1e-12)


def test_the_optimum_beats_every_other_law() -> None:
    """E[R] - beta KL(p || p_ref) is largest there: laws on the way to it are worse, and the maximum is beta log Z."""
    reference, reward, beta = markov_chain(SMALL), parity(SMALL), 0.25
    best = optimum(reference, reward, beta)

    def value(law: torch.Tensor) -> float:
        return float((law * reward).sum() - beta * kl(law, reference))

    assert value(best) == pytest.approx(float(beta * (reference * (reward / beta).exp()).sum().log()))
    for share in (0.0, 0.5, 0.9, 0.99):
        assert value(share * best + (1 - share) * reference) < value(best)


def test_the_best_policy_has_the_optimum_as_its_law_if_the_reference_is_consistent() -> None:
    reward, beta = parity(SMALL), 0.25
    distances = {}
    for name, reference in denoisers(SMALL).items():
        goal = optimum(first_hitting_law(reference, SMALL).detach(), reward, beta)
        distances[name] = float(total_variation(best_law(reference, SMALL, reward, beta), goal))
    assert distances["ideal"] < 1e-12
    assert 1e-4 < distances["noisy"] < distances["arbitrary"] < 0.1


def test_the_best_policy_cannot_be_improved() -> None:
    """The gradient of E[R] - beta path KL vanishes there, on an inconsistent reference too."""
    reward, beta, reference = parity(SMALL), 0.25, denoisers(SMALL)["noisy"]
    policy = denoisers(SMALL)["ideal"]
    policy.network.logits.data.nan_to_num_(0.0, neginf=0.0)
    optimizer = torch.optim.LBFGS(policy.network.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = beta * path_divergence(policy, reference, SMALL) - expected_reward(policy, SMALL, reward)
        value.backward()
        return value

    optimizer.step(loss)
    found = first_hitting_law(policy, SMALL).detach()
    assert float(total_variation(found, best_law(reference, SMALL, reward, beta))) < 1e-4


def test_total_variation_of_disjoint_laws_is_one() -> None:
    first, second = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.0, 0.0, 1.0]).double()
    assert total_variation(first, second) == 1 and total_variation(first, first) == 0
    assert kl(first, torch.tensor([0.25, 0.25, 0.5]).double()).item() == pytest.approx(torch.tensor(2.0).log().item())


def test_networks_that_see_the_time_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Uniform.*time_free=False.*kernel_law"):
        first_hitting_law(ideal_uniform(SMALL, markov_chain(SMALL)), SMALL)
