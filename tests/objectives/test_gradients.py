"""SEPO's gradient against the exact gradient of E[R], by enumeration of every path and every choice of states.

Advantages carry the probability of each path, so that the mean over the batch is the expectation; at theta = theta_old
every weight is linear in the advantage. Nothing is sampled: what is left is rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import Reading, Views
from sepo.evaluation.exact import (
    all_paths,
    expected_reward,
    first_hitting_law,
    path_divergence,
    path_probabilities,
    rated,
    visits,
)
from sepo.evaluation.worlds import Law, World, count, markov_chain, parity, random_reward, random_table, tabular
from sepo.objectives import SEPO, AllSites, Credit, FreshMasks, NextSite, Objective, PathKL, ScoreClip, Total
from sepo.objectives.levels import Level, step, token
from sepo.objectives.weights import WEIGHTS, Unclipped
from sepo.ops import Chance, divergence
from tests.worlds import DEEP, SMALL, Written, denoisers

NETWORKS = ("ideal", "noisy", "arbitrary")
ROUNDING = {"rtol": 1e-7, "atol": 1e-9}


@dataclass(frozen=True)
class Enumerated:
    """Every path of a policy in a world, with its probability under it."""

    policy: Denoiser
    world: World
    paths: MaskedPath
    probability: Tensor

    @staticmethod
    def of(policy: Denoiser, world: World) -> Enumerated:
        paths = rated(policy, all_paths(world))
        return Enumerated(policy, world, paths, path_probabilities(policy, paths).detach())

    def gradient(
        self, objective: Objective, returns: Tensor, chance: Chance, reference: Denoiser | None = None
    ) -> Tensor:
        """Of the expectation of the objective over all paths; returns [path]."""
        views = objective.views(self.paths, self.policy.process, chance)
        new = objective.read(self.policy, views)
        ahead = None if reference is None else objective.read(reference, views).detach()
        old = rollout_reading(self.paths, views) if objective.reads_rollout else new.detach()
        advantage = returns * self.probability * len(self.paths)
        value = objective.loss(new, old, ahead, Credit.of(advantage), views).value
        return torch.autograd.grad(value, [*self.policy.network.parameters()])[0]

    def per_path(self, reward: Law) -> Tensor:
        return reward[self.world.index(self.paths.x0)]


def rollout_reading(paths: MaskedPath, views: Views) -> Reading:
    """The old policy's reading of next-site views, without another evaluation."""
    return Reading(torch.where(views.weight != 0, paths.log_prob.unsqueeze(1), 0.0))


def exact_gradient(policy: Denoiser, value: Tensor) -> Tensor:
    return torch.autograd.grad(value, [*policy.network.parameters()])[0]


def unused(paths: MaskedPath) -> Chance:
    """Reading every state draws nothing."""
    return Written.down(torch.zeros(len(paths), 0))


def relative_bias(estimate: Tensor, exact: Tensor) -> float:
    return float((estimate - exact).norm() / exact.norm())


@pytest.mark.parametrize("world", [SMALL, DEEP], ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_next_site_is_the_exact_policy_gradient_on_any_network(network: str, world: World) -> None:
    policy = denoisers(world)[network]
    every = Enumerated.of(policy, world)
    for reward in (parity(world), count(world), random_reward(world)):
        estimate = -every.gradient(SEPO(NextSite(None)), every.per_path(reward), unused(every.paths))
        exact = exact_gradient(policy, expected_reward(policy, world, reward))
        assert exact.norm() > 0.01
        torch.testing.assert_close(estimate, exact, **ROUNDING)


@pytest.mark.parametrize("weight", sorted(WEIGHTS))
def test_every_weight_has_this_gradient_at_the_old_policy(weight: str) -> None:
    policy = denoisers(SMALL)["arbitrary"]
    every, reward = Enumerated.of(policy, SMALL), random_reward(SMALL)
    estimate = -every.gradient(SEPO(NextSite(None), WEIGHTS[weight]()), every.per_path(reward), unused(every.paths))
    torch.testing.assert_close(estimate, exact_gradient(policy, expected_reward(policy, SMALL, reward)), **ROUNDING)


@pytest.mark.parametrize("level", [token, step])
def test_off_policy_only_the_ratio_of_the_whole_step_is_exact(level: Level) -> None:
    """All sites in one step, drawn by another policy: the step's ratio makes up for it, a product of one for each site
    does not."""
    policy, other, reward = denoisers(SMALL)["noisy"], denoisers(SMALL)["arbitrary"], random_reward(SMALL)
    path = all_paths(SMALL)[: len(SMALL.sequences)]
    path = rated(other, replace(path, order=torch.zeros_like(path.order), times=path.times[:, :1]))
    objective = SEPO(NextSite(None), Unclipped(), level=level)
    views = objective.views(path, policy.process, unused(path))
    new, law = objective.read(policy, views), path.log_prob.sum(1).exp()
    credit = Credit.of(reward * law * len(path))
    estimate = -exact_gradient(policy, objective.loss(new, rollout_reading(path, views), None, credit, views).value)
    exact = exact_gradient(policy, reward @ path_log_prob(policy, path, at_once=4096).sum(1).exp())
    if level is step:
        torch.testing.assert_close(estimate, exact, **ROUNDING)
    else:
        assert relative_bias(estimate, exact) > 0.1


@pytest.mark.parametrize("states", [1, 2, 3, 4])
def test_a_choice_of_states_stays_exact(states: int) -> None:
    """The position in each stratum is integrated exactly: with n states its integrand is constant on n equal parts."""
    world, policy = DEEP, denoisers(DEEP)["arbitrary"]
    every, reward = Enumerated.of(policy, world), parity(world)
    parts = (torch.arange(4) + 0.5).double() / 4
    choices = [torch.stack(each) for each in product(parts, repeat=min(states, 2))]
    if states > 2:  # the sum over views is linear: strata need not be varied independently
        choices = [part.expand(states) for part in parts]
    gradients = [
        -every.gradient(SEPO(NextSite(states)), every.per_path(reward), Written.down(each.expand(len(every.paths), -1)))
        for each in choices
    ]
    exact = exact_gradient(policy, expected_reward(policy, world, reward))
    torch.testing.assert_close(torch.stack(gradients).mean(0), exact, **ROUNDING)
    if states < 4:  # and a single choice is not
        assert relative_bias(gradients[0], exact) > 0.1


def test_strata_that_do_not_divide_the_states_stay_exact() -> None:
    """Three states in two strata: the middle one stands in both."""
    policy = denoisers(SMALL)["noisy"]
    every, reward = Enumerated.of(policy, SMALL), parity(SMALL)
    parts = (torch.arange(3) + 0.5).double() / 3
    gradients = [
        -every.gradient(
            SEPO(NextSite(2)), every.per_path(reward), Written.down(torch.stack(each).expand(len(every.paths), -1))
        )
        for each in product(parts, repeat=2)
    ]
    exact = exact_gradient(policy, expected_reward(policy, SMALL, reward))
    torch.testing.assert_close(torch.stack(gradients).mean(0), exact, **ROUNDING)


def test_all_sites_is_exact_at_the_ideal_denoiser_and_biased_elsewhere() -> None:
    biases = {}
    for name, policy in denoisers(SMALL).items():
        every, reward = Enumerated.of(policy, SMALL), parity(SMALL)
        centred = every.per_path(reward) - float(expected_reward(policy, SMALL, reward).detach())
        estimate = -every.gradient(SEPO(AllSites(None)), centred, unused(every.paths))
        biases[name] = relative_bias(estimate, exact_gradient(policy, expected_reward(policy, SMALL, reward)))
    assert biases["ideal"] < 1e-7
    assert 0.05 < biases["noisy"] < biases["arbitrary"]


def fresh_mask_gradient(policy: Denoiser, world: World, returns: Law) -> Tensor:
    """The mean over finished sequences, mask counts and masks, through the library's views."""
    orders = all_paths(world).order.unique(dim=0).double() / world.length
    counts = (torch.arange(world.length) + 0.5).double() / world.length
    numbers = torch.cat([counts.repeat_interleave(len(orders)).unsqueeze(1), orders.repeat(world.length, 1)], dim=1)
    masks, law = len(numbers), first_hitting_law(policy, world).detach()
    shape = all_paths(world)[: len(world.sequences)]
    paths = MaskedPath(shape.canvas, world.sequences, shape.order, shape.times, shape.log_prob)
    paths = paths.map(lambda tensor: tensor.repeat_interleave(masks, dim=0))
    every = Enumerated(policy, world, paths, law.repeat_interleave(masks) / masks)
    chance = Written.down(numbers.repeat(len(law), 1).unsqueeze(1))
    return -every.gradient(SEPO(FreshMasks(1)), returns.repeat_interleave(masks), chance)


def test_fresh_masks_are_exact_at_the_ideal_denoiser_and_biased_elsewhere() -> None:
    biases = {}
    for name, policy in denoisers(SMALL).items():
        reward = parity(SMALL)
        centred = reward - float(expected_reward(policy, SMALL, reward).detach())
        estimate = fresh_mask_gradient(policy, SMALL, centred)
        biases[name] = relative_bias(estimate, exact_gradient(policy, expected_reward(policy, SMALL, reward)))
    assert biases["ideal"] < 1e-7
    assert 0.05 < biases["noisy"] < biases["arbitrary"]


def test_a_constant_in_the_return_changes_the_other_readings_but_not_next_site() -> None:
    policy = denoisers(SMALL)["noisy"]
    every = Enumerated.of(policy, SMALL)
    constant = torch.full((len(every.paths),), 5.0, dtype=torch.double)
    assert every.gradient(SEPO(NextSite(None)), constant, unused(every.paths)).norm() < 1e-9
    assert every.gradient(SEPO(AllSites(None)), constant, unused(every.paths)).norm() > 0.1


@pytest.mark.parametrize("network", NETWORKS)
def test_the_log_ratio_in_the_return_gives_the_gradient_of_reward_less_path_kl(network: str) -> None:
    world, beta = SMALL, 0.3
    policy, reference = denoisers(world)[network], tabular(world, markov_chain(world, seed=9), noise=0.4, seed=9)
    every, reward = Enumerated.of(policy, world), random_reward(world)
    log_ratio = (every.paths.log_prob - path_log_prob(reference, every.paths).detach()).sum(1)
    returns = every.per_path(reward) - beta * log_ratio
    estimate = -every.gradient(SEPO(NextSite(None)), returns, unused(every.paths))
    goal = expected_reward(policy, world, reward) - beta * path_divergence(policy, reference, world)
    torch.testing.assert_close(estimate, exact_gradient(policy, goal), **ROUNDING)


def test_the_kl_as_a_loss_term_misses_the_states_that_the_policy_chooses() -> None:
    """Its gradient is that of the KL at the visited states with the visits held fixed."""
    world, beta = SMALL, 0.3
    policy, reference = denoisers(world)["noisy"], random_table(world, seed=9)
    every, reward = Enumerated.of(policy, world), random_reward(world)
    objective = Total(SEPO(NextSite(None)), ((beta, weighted_path_kl(every.probability)),))
    estimate = -every.gradient(objective, every.per_path(reward), unused(every.paths), reference)
    masked = world.states == 3
    new, ahead = (each.log_posterior(world.states, torch.full((64,), 0.5)) for each in (policy, reference))
    at_states = divergence(new, ahead).masked_fill(~masked, 0.0).sum(1) / masked.sum(1).clamp_min(1)
    fixed = expected_reward(policy, world, reward) - beta * (visits(policy, world).detach() * at_states).sum()
    torch.testing.assert_close(estimate, exact_gradient(policy, fixed), rtol=1e-6, atol=1e-7)
    goal = expected_reward(policy, world, reward) - beta * path_divergence(policy, reference, world)
    assert relative_bias(estimate, exact_gradient(policy, goal)) > 0.1


def weighted_path_kl(probability: Tensor) -> PathKL:
    """The penalty with each path counted by its probability instead of once."""

    class Weighted(PathKL):
        def loss(self, new, old, reference, advantage, views):  # type: ignore[no-untyped-def]
            share = (probability * len(probability)).view(-1, 1, 1)
            views = replace(views, hazard=views.hazard * share)
            return super().loss(new, old, reference, advantage, views)

    return Weighted()


@pytest.mark.parametrize("states", [None, 2])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_path_kl_penalty_is_the_kl_between_the_laws_of_paths(network: str, states: int | None) -> None:
    world = SMALL
    policy, reference = denoisers(world)[network], random_table(world, seed=9)
    every = Enumerated.of(policy, world)
    penalty, objective = weighted_path_kl(every.probability), SEPO(NextSite(states))
    parts = (torch.arange(3) + 0.5).double() / 3
    values = []
    for part in parts:
        chance = unused(every.paths) if states is None else Written.down(part.expand(len(every.paths), states))
        views = objective.views(every.paths, policy.process, chance)
        with torch.no_grad():
            new, ahead = (Total(objective, ((1.0, penalty),)).read(each, views) for each in (policy, reference))
        values.append(penalty.loss(new, new, ahead, Credit.of(torch.zeros(len(every.paths))), views).value)
    expected = path_divergence(policy, reference, world).detach()
    enumerated = every.probability @ (every.paths.log_prob - path_log_prob(reference, every.paths)).sum(1).detach()
    torch.testing.assert_close(enumerated, expected)
    torch.testing.assert_close(torch.stack(values).mean(), expected)


def test_off_policy_only_the_product_over_the_whole_path_is_unbiased() -> None:
    """E_old[ratio of the path x R grad log p] is exact at any theta; per-site ratios are its first-order surrogate."""
    world, reward = SMALL, random_reward(SMALL)
    old, new = denoisers(world)["noisy"], random_table(world, seed=3, spread=0.7)
    every = Enumerated.of(old, world)
    returns = every.per_path(reward)
    exact = exact_gradient(new, expected_reward(new, world, reward))
    log_prob = path_log_prob(new, every.paths).sum(1)
    ratio = (log_prob - every.paths.log_prob.sum(1)).exp()
    torch.testing.assert_close(exact_gradient(new, (every.probability * returns * ratio).sum()), exact, **ROUNDING)
    objective = SEPO(NextSite(None), ScoreClip())
    views = objective.views(every.paths, old.process, unused(every.paths))
    reading, before = objective.read(new, views), rollout_reading(every.paths, views)
    value = objective.loss(
        reading, before, None, Credit.of(returns * every.probability * len(every.paths)), views
    ).value
    assert relative_bias(-exact_gradient(new, value), exact) > 0.05
