"""Every published method: what it costs, what leaves it still, its loss against numbers written down or enumerated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import Reading, Views
from sepo.evaluation.exact import expected_reward, first_hitting_law, path_divergence
from sepo.evaluation.objectives import left_to_right_law
from sepo.evaluation.worlds import markov_chain, random_reward, random_table, tabular
from sepo.objectives import Credit, Objective
from sepo.objectives.advantages import Returns
from sepo.objectives.algorithms import ALGORITHMS
from sepo.objectives.returns import to_go
from sepo.objectives.sdpo import Sdpo
from sepo.objectives.spg import Sandwich
from sepo.objectives.trajectory_balance import TrajectoryBalance
from sepo.objectives.trajectory_pg import TrajectoryPG
from sepo.objectives.vrpo import Vrpo
from sepo.objectives.wd1 import Wd1
from sepo.objectives.wdce import Wdce
from sepo.ops import Chance
from sepo.samplers import SAMPLERS, roll
from tests.objectives.test_gradients import Enumerated, exact_gradient, unused
from tests.worlds import SMALL, denoisers

POLICY = random_table(SMALL, seed=1)
REFERENCE = tabular(SMALL, markov_chain(SMALL), noise=0.3)
ROUNDING = {"rtol": 1e-6, "atol": 1e-9}


@dataclass(frozen=True)
class Claim:
    """evaluations: of an update, per sequence of three sites; still: equal rewards give no gradient."""

    evaluations: int
    still: bool = True


CLAIMS = {
    "trajectory_pg": Claim(3),
    "step_merge": Claim(3),
    "trace_rl": Claim(1),
    "just_grpo": Claim(3),
    "diffu_grpo": Claim(1),
    "coupled_grpo": Claim(3),
    "uni_grpo": Claim(1),
    "wd1": Claim(1),
    "espo": Claim(4),
    "spg": Claim(2),
    "vrpo": Claim(8),
    "sdpo": Claim(1, still=False),
    "wdce": Claim(16, still=False),
    "trajectory_balance": Claim(3),
    "elite_replay": Claim(0),
    "sepo_released": Claim(1 + 3 * 4 * 3),  # x, its neighbours, and two draws from each
}
with_a_loss = pytest.mark.parametrize("name", [name for name, kind in ALGORITHMS.items() if not kind.replays])


def test_every_method_of_the_table_states_its_claims() -> None:
    assert set(CLAIMS) == set(ALGORITHMS)


def rollouts(name: str, batch: int = 16, canvas: Canvas | None = None) -> MaskedPath:
    sampler = SAMPLERS[ALGORITHMS[name].sampler or "first_hitting"]()
    path = roll(sampler, POLICY, canvas or Canvas.blank(batch, 3), Chance.of(0, batch))
    assert isinstance(path, MaskedPath)
    return path


def credit(name: str, path: MaskedPath, reward: Tensor) -> Credit:
    return Credit.of(ALGORITHMS[name]().advantage()(reward, len(reward)), reward)


def loss(objective: Objective, seen: Views, given: Credit, policy: Denoiser = POLICY) -> Tensor:
    with torch.no_grad():
        old = objective.read(policy, seen)
        ahead = objective.read(REFERENCE, seen)
    return objective.loss(objective.read(policy, seen), old, ahead, given, seen).value


def gradient(value: Tensor, policy: Denoiser = POLICY) -> Tensor:
    return torch.autograd.grad(value, [*policy.network.parameters()])[0]


def views(objective: Objective, path: MaskedPath) -> Views:
    return objective.views(path, POLICY.process, Chance.seeded(1, range(len(path)), 1))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_update_costs_what_is_claimed(name: str) -> None:
    path, objective = rollouts(name), ALGORITHMS[name]().objective()
    policy = replace(POLICY, meter=Meter())
    objective.read(policy, views(objective, path))
    assert policy.meter.evaluations == len(path) * CLAIMS[name].evaluations


@with_a_loss
def test_equal_rewards_teach_nothing_where_that_is_claimed(name: str) -> None:
    path, objective = rollouts(name), ALGORITHMS[name]().objective()
    seen, equal = views(objective, path), torch.full((16,), 0.5)
    moved = gradient(loss(objective, seen, credit(name, path, equal))).norm()
    assert (moved < 1e-5) == CLAIMS[name].still
    different = torch.rand(16, generator=torch.Generator().manual_seed(0))
    assert gradient(loss(objective, seen, credit(name, path, different))).norm() > 1e-4


def ragged(name: str) -> MaskedPath:
    """Rows with three, two and one free sites."""
    free = torch.tensor([[True, True, True], [False, True, True], [False, True, False], [True, False, True]])
    canvas = Canvas(torch.zeros(16, 3, dtype=torch.long), free.repeat(4, 1))
    return rollouts(name, canvas=canvas)


@with_a_loss
def test_a_reading_is_deterministic_and_a_batch_is_the_mean_of_its_parts(name: str) -> None:
    """Value and gradient, in parts of as many sequences as are compared with each other."""
    path, objective = ragged(name), ALGORITHMS[name]().objective()
    given = credit(name, path, torch.rand(16, generator=torch.Generator().manual_seed(0)))
    seen, again = views(objective, path), views(objective, path)
    assert torch.equal(objective.read(POLICY, seen).log_prob, objective.read(POLICY, again).log_prob)
    if name == "sepo_released":  # one minimum of two numbers over the whole batch: no mean of parts
        return
    unit = objective.together
    whole = loss(objective, seen, given)
    parts = torch.stack([loss(objective, seen[at : at + unit], given[at : at + unit]) for at in range(0, 16, unit)])
    torch.testing.assert_close(whole, parts.mean(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient(whole), gradient(parts.mean()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("network", ["noisy", "arbitrary"])
def test_trajectory_pg_is_the_exact_policy_gradient(network: str) -> None:
    policy = denoisers(SMALL)[network]
    every_path, reward = Enumerated.of(policy, SMALL), random_reward(SMALL)
    estimate = -every_path.gradient(TrajectoryPG().objective(), every_path.per_path(reward), unused(every_path.paths))
    torch.testing.assert_close(estimate, exact_gradient(policy, expected_reward(policy, SMALL, reward)), **ROUNDING)


def test_left_to_right_paths_give_the_exact_policy_gradient_of_their_sampler() -> None:
    """JustGRPO: a mean over tokens, so a third of the sum over three sites."""
    policy, reward = denoisers(SMALL)["arbitrary"], random_reward(SMALL)
    order = torch.arange(3).expand(27, -1)
    canvas, times = Canvas.blank(27, 3), (1 - torch.arange(3) / 3).double().expand(27, -1)
    paths = MaskedPath(canvas, SMALL.sequences, order, times, torch.zeros(27, 3, dtype=torch.double))
    paths = replace(paths, log_prob=path_log_prob(policy, paths).detach())
    law = left_to_right_law(policy, SMALL)
    torch.testing.assert_close(paths.log_prob.sum(1).exp(), law.detach(), **ROUNDING)
    every_path = Enumerated(policy, SMALL, paths, law.detach())
    objective = ALGORITHMS["just_grpo"]().objective()
    estimate = -every_path.gradient(objective, every_path.per_path(reward), unused(paths))
    exact = exact_gradient(policy, (left_to_right_law(policy, SMALL) * reward).sum())
    torch.testing.assert_close(3 * estimate, exact, **ROUNDING)


def test_trajectory_balance_is_the_policy_gradient_of_reward_less_kl_at_the_old_policy() -> None:
    policy, reference, reward, beta = denoisers(SMALL)["noisy"], random_table(SMALL, seed=9), random_reward(SMALL), 0.3
    every_path = Enumerated.of(policy, SMALL)
    log_ratio = (every_path.paths.log_prob - path_log_prob(reference, every_path.paths).detach()).sum(1)
    returns = every_path.per_path(reward) - beta * log_ratio
    centred = returns - (every_path.probability * returns).sum()
    objective = TrajectoryBalance(beta).objective()
    seen = objective.views(every_path.paths, policy.process, unused(every_path.paths))
    new = objective.read(policy, seen)
    total = torch.zeros_like(SMALL.sequences[0, 0], dtype=torch.double)
    for row, share in enumerate(every_path.probability.tolist()):
        one = Reading(new.log_prob[row : row + 1])
        total = (
            total
            + share
            * objective.loss(one, one.detach(), None, Credit.of(centred[row : row + 1]), seen[row : row + 1]).value
        )
    goal = expected_reward(policy, SMALL, reward) - beta * path_divergence(policy, reference, SMALL)
    torch.testing.assert_close(-gradient(total, policy), exact_gradient(policy, goal), **ROUNDING)


def test_what_lies_behind_a_step_may_be_left_out_of_its_return() -> None:
    """The gradient with returns to go is that with whole returns, and both are exact."""
    policy, reference, reward, beta = denoisers(SMALL)["noisy"], random_table(SMALL, seed=9), random_reward(SMALL), 0.3
    paths = Enumerated.of(policy, SMALL)
    log_ratio = paths.paths.per_step(paths.paths.log_prob - path_log_prob(reference, paths.paths).detach())
    returns = to_go(paths.per_path(reward), log_ratio, beta)
    objective = TrajectoryPG().objective()
    seen = objective.views(paths.paths, policy.process, unused(paths.paths))
    found = []
    for each in (returns, returns[:, :1].expand_as(returns)):
        weighted = each * (paths.probability * len(paths.paths)).unsqueeze(1)
        given = Credit(weighted, weighted[:, 0], weighted[:, 0]).at(seen.step)
        found.append(-gradient(loss(objective, seen, given, policy), policy))
    goal = expected_reward(policy, SMALL, reward) - beta * path_divergence(policy, reference, SMALL)
    torch.testing.assert_close(found[0], exact_gradient(policy, goal), **ROUNDING)
    torch.testing.assert_close(found[1], found[0], **ROUNDING)


def test_wd1_weighs_by_a_difference_of_softmaxes_over_the_group() -> None:
    returns: Returns = torch.tensor([1.0, 0.0, 0.5, 3.0, 3.0, 3.0])
    weights = Wd1(psi=2.0).advantage()(returns, 3)
    centred = 2 * (returns[:3] - 0.5)
    torch.testing.assert_close(weights[:3], 3 * (centred.softmax(0) - (-centred).softmax(0)))
    assert weights[3:].abs().max() < 1e-6


def test_wdce_weighs_by_a_softmax_of_returns_over_beta_and_leaves_out_what_has_none() -> None:
    returns = torch.tensor([1.0, float("nan"), 0.5, 0.2])
    weights = Wdce(beta=0.5).advantage()(returns, 4)
    expected = 3 * (returns[[0, 2, 3]] / 0.5).softmax(0)
    torch.testing.assert_close(weights[[0, 2, 3]], expected)
    assert weights[1] == 0
    with pytest.raises(ValueError, match="4 returns do not make whole groups of 3"):
        Wdce().advantage()(returns, 3)


def written_views(weight: Tensor) -> Views:
    batch, view, length = weight.shape
    zeros = torch.zeros(batch, view, length, dtype=torch.long)
    free = torch.ones(batch, length, dtype=torch.bool)
    return Views(zeros, torch.full((batch, view), 0.5), zeros, weight, weight, free)


def test_vrpo_is_dpo_on_the_bounds_of_consecutive_sequences() -> None:
    new = torch.tensor([[[-1.0, -2.0]], [[-3.0, -1.0]], [[-1.0, -1.0]], [[-2.0, -2.0]]])
    ahead = torch.full((4, 1, 2), -1.5)
    reward = torch.tensor([0.0, 1.0, 2.0, 2.0])  # the second of the first pair wins; the second pair is a tie
    seen = written_views(torch.ones(4, 1, 2))
    objective = Vrpo(beta=0.5).objective()
    value = objective.loss(Reading(new), Reading(new), Reading(ahead), Credit.of(reward), seen).value
    margin = torch.tensor(0.5 * ((-4.0 + 3.0) - (-3.0 + 3.0)))
    torch.testing.assert_close(value, -torch.nn.functional.logsigmoid(margin) / 2)


def test_sdpo_is_the_cross_entropy_between_shares_of_reward_and_of_implicit_reward() -> None:
    new, ahead = torch.randn(2, 4, 1, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
    reward = torch.tensor([0.3, 0.9, 0.1, 0.2])
    seen = written_views(torch.full((4, 1, 3), 2.0))
    objective = Sdpo(together=2, beta=0.5, temperature=0.25).objective()
    value = objective.loss(Reading(new), Reading(new), Reading(ahead), Credit.of(reward), seen).value
    gain = 0.5 * 2 * (new - ahead).sum((1, 2)).view(2, 2)
    goal = (reward.view(2, 2) / 0.25).softmax(1)
    torch.testing.assert_close(value, -(goal * gain.log_softmax(1)).sum(1).mean())


def test_spg_sandwiches_the_likelihood() -> None:
    """On whole views of every mask the lower bound is below log p and the upper one, per token, above the lower."""
    path = rollouts("spg", 64)
    for policy in (POLICY, REFERENCE):
        objective = Sandwich(masks=64, power=1.5)
        seen = views(objective, path)
        with torch.no_grad():
            reading = objective.read(policy, seen)
            lower, upper = objective.lower(reading.log_prob, seen), objective.upper(reading.log_prob, seen)
        assert (upper > lower).float().mean() > 0.8
        truth = first_hitting_law(policy, SMALL).detach()[SMALL.index(path.x0)].log() / 3
        assert (lower.mean() < truth.mean() + 0.02) and (upper.mean() > truth.mean() - 0.02)
