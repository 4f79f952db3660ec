"""The objective with a critic, by enumeration: a baseline changes no mean, whatever it says; and what it learns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.valued import Valued, read_with_value
from sepo.diffusion.views import Reading, Views
from sepo.evaluation.exact import (
    all_paths,
    expected_reward,
    path_probabilities,
    rated,
    visits,
)
from sepo.evaluation.values import site_values, state_values
from sepo.evaluation.worlds import Law, Table, World, at_time, count, parity, random_reward
from sepo.models.critic import Critic
from sepo.objectives import SEPO, ActorCritic, AllSites, Credit, NextSite, PPOClip, ScoreClip
from sepo.objectives.gae import generalised_advantage
from sepo.ops import rows
from tests.objectives.test_gradients import NETWORKS, ROUNDING, exact_gradient, relative_bias, unused
from tests.worlds import DEEP, SMALL, denoisers


class Judged(nn.Module):
    """A table of logits, and a table of values per masked state and site."""

    def __init__(self, table: Table, values: Tensor) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("values", values)

    def forward(self, xt: Tensor, sigma: Tensor, attend: Tensor | None = None, sites: Tensor | None = None):
        logits, values = self.table(xt), self.values[self.table.world.state_index(xt)]
        return (logits, values) if sites is None else (rows(logits, sites), values.gather(1, sites))


def judged(policy: Denoiser, values: Tensor) -> Denoiser:
    assert isinstance(policy.network, Table)
    return replace(policy, network=Judged(policy.network, values), call=Valued())


@dataclass(frozen=True)
class Paths:
    """Every path of a judged policy, with its probability and the values along it."""

    policy: Denoiser
    paths: MaskedPath
    probability: Tensor

    @staticmethod
    def of(policy: Denoiser, world: World) -> Paths:
        paths = rated(policy, all_paths(world))
        return Paths(policy, paths, path_probabilities(policy, paths).detach())

    def views(self, objective: ActorCritic) -> Views:
        """Each path counts by its probability: the mean over the batch is the expectation."""
        views = objective.views(self.paths, self.policy.process, unused(self.paths))
        share = (self.probability * len(self.paths)).view(-1, 1, 1)
        return replace(views, weight=views.weight * share)

    def gradient(self, objective: ActorCritic, credit: Credit) -> Tensor:
        views = self.views(objective)
        new = objective.read(self.policy, views)
        value = objective.loss(new, new.detach(), None, credit.at(views.step), views).value
        return -torch.autograd.grad(value, [*self.policy.network.parameters()])[0]


def at_views(target: Tensor, steps: int) -> Credit:
    """Credit with the target alone: the advantage is made of it in the loss."""
    return replace(Credit.of(target), target=target.unsqueeze(1).expand(-1, steps))


def policy_term(reading=NextSite, weight=ScoreClip, **options) -> ActorCritic:
    return ActorCritic(SEPO(reading(None), weight()), **{"vf_coef": 0.0, **options})


@pytest.mark.parametrize("network", NETWORKS)
def test_the_values_of_states_are_the_expected_rewards_of_the_paths_through_them(network: str) -> None:
    policy, reward = denoisers(SMALL)[network], random_reward(SMALL)
    paths = rated(policy, all_paths(SMALL))
    probability, steps = path_probabilities(policy, paths).detach(), torch.arange(3).expand(len(paths), -1)
    index = SMALL.state_index(paths.states(steps, SMALL.letters).flatten(0, 1)).view(len(paths), 3)
    mass, worth = torch.zeros(64, dtype=torch.double), torch.zeros(64, dtype=torch.double)
    earned = probability * reward[SMALL.index(paths.x0)]
    for step in range(3):
        mass.index_add_(0, index[:, step], probability)
        worth.index_add_(0, index[:, step], earned)
    masked = (SMALL.states == SMALL.letters).any(1)
    torch.testing.assert_close(mass[masked], visits(policy, SMALL).detach()[masked])
    value = state_values(policy, SMALL, reward)
    torch.testing.assert_close(value[masked], (worth / mass)[masked])
    torch.testing.assert_close(value[~masked], reward)
    torch.testing.assert_close(value[-1], expected_reward(policy, SMALL, reward).detach())


@pytest.mark.parametrize("weight", [ScoreClip, PPOClip])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_gradient_is_exact_whatever_the_critic_says(network: str, weight: type) -> None:
    for world, reward in ((SMALL, random_reward(SMALL)), (DEEP, parity(DEEP))):
        policy = denoisers(world)[network]
        exact = exact_gradient(policy, expected_reward(policy, world, reward))
        for values in (site_values(policy, world, reward), torch.randn(len(world.states), world.length).double()):
            every = Paths.of(judged(policy, values), world)
            credit = at_views(reward[world.index(every.paths.x0)], world.length)
            torch.testing.assert_close(every.gradient(policy_term(weight=weight), credit), exact, **ROUNDING)


def by_gae(every: Paths, world: World, reward: Law, gae_lambda: float) -> Credit:
    views = NextSite(None)(every.paths, every.policy.process, unused(every.paths))
    value = read_with_value(every.policy, views, NextSite(None).read).value
    assert value is not None
    earned, none = reward[world.index(every.paths.x0)], torch.zeros_like(value)
    advantage = generalised_advantage(earned, none, value, every.paths.active(), gae_lambda).detach()
    return Credit(advantage, earned, torch.zeros_like(earned), value.detach(), (advantage + value).detach())


def test_less_than_lambda_one_is_exact_with_exact_values_and_biased_with_others() -> None:
    world, reward = SMALL, random_reward(SMALL)
    policy = denoisers(world)["noisy"]
    exact = exact_gradient(policy, expected_reward(policy, world, reward))
    objective = policy_term(collected=True)
    for gae_lambda in (0.0, 0.5, 1.0):
        every = Paths.of(judged(policy, site_values(policy, world, reward)), world)
        found = every.gradient(objective, by_gae(every, world, reward, gae_lambda))
        torch.testing.assert_close(found, exact, **ROUNDING)
    wrong = Paths.of(judged(policy, torch.randn(len(world.states), world.length).double()), world)
    torch.testing.assert_close(wrong.gradient(objective, by_gae(wrong, world, reward, 1.0)), exact, **ROUNDING)
    assert relative_bias(wrong.gradient(objective, by_gae(wrong, world, reward, 0.5)), exact) > 0.1


def test_exact_values_lower_the_variance_that_a_constant_baseline_leaves() -> None:
    """Sum of the variances of all components of the gradient of one path."""
    policy, reward = denoisers(SMALL)["noisy"], count(SMALL)
    mean = float(expected_reward(policy, SMALL, reward).detach())
    spread = {}
    for name, values in {
        "constant": torch.full((len(SMALL.states), SMALL.length), mean).double(),
        "exact": site_values(policy, SMALL, reward),
    }.items():
        model = judged(policy, values)
        every = Paths.of(model, SMALL)
        objective, total = policy_term(), 0.0
        for row in range(len(every.paths)):
            path = every.paths[row : row + 1]
            views = objective.views(path, model.process, unused(path))
            new = objective.read(model, views)
            credit = at_views(reward[SMALL.index(path.x0)], SMALL.length).at(views.step)
            value = objective.loss(new, new.detach(), None, credit, views).value
            gradient = torch.autograd.grad(value, [*model.network.parameters()])[0]
            total += float(every.probability[row] * gradient.square().sum())
        spread[name] = total - float(exact_gradient(policy, expected_reward(policy, SMALL, reward)).square().sum())

    assert spread["exact"] < 0.85 * spread["constant"]


def test_a_critic_that_knew_the_outcome_leaves_no_policy_gradient() -> None:
    """Zero advantage everywhere, by values equal to the targets."""
    policy = judged(denoisers(SMALL)["noisy"], torch.full((64, 3), 2.0).double())
    every = Paths.of(policy, SMALL)
    target = torch.full((len(every.paths),), 2.0).double()
    assert (every.gradient(policy_term(), at_views(target, 3)) == 0).all()
    assert (every.gradient(policy_term(), at_views(target + 1, 3)) != 0).any()


def test_a_reward_that_does_not_apply_gives_no_gradient_to_either() -> None:
    policy = judged(denoisers(SMALL)["noisy"], torch.ones(64, 3).double())
    every = Paths.of(policy, SMALL)
    objective = policy_term(vf_coef=0.5)
    views = every.views(objective)
    new = replace(objective.read(policy, views))
    value = new.value.clone().requires_grad_()
    nothing = at_views(torch.full((len(every.paths),), torch.nan).double(), 3)
    loss = objective.loss(replace(new, value=value), new.detach(), None, nothing.at(views.step), views)
    assert loss.value.item() == 0
    assert all((each == 0).all() for each in torch.autograd.grad(loss.value, [value, *policy.network.parameters()]))


def reading_of(value: list[float]) -> Reading:
    return Reading(torch.zeros(1, len(value), 2), value=torch.tensor([value], requires_grad=True))


def two_views() -> Views:
    weight = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])
    zeros = torch.zeros(1, 2, 2, dtype=torch.long)
    return Views(zeros, torch.zeros(1, 2), zeros, weight, weight, torch.ones(1, 2, dtype=torch.bool))


def test_the_clipped_value_loss_by_hand() -> None:
    """V_old = (0, 0), V = (0.5, -0.5), target = (1, 1), clip 0.2: the first has moved too far, the second away."""
    new, old = reading_of([0.5, -0.5]), reading_of([0.0, 0.0])
    credit = replace(Credit.of(torch.zeros(1)), value=torch.zeros(1, 2), target=torch.ones(1, 2))
    objective = ActorCritic(SEPO(), vf_coef=2.0, cliprange_value=0.2, collected=True)
    loss = objective.loss(new, old, None, credit, two_views())
    assert loss.value.item() == pytest.approx(2.0 * (3 * 0.8**2 + 1.5**2) / 2)
    assert new.value is not None
    assert torch.autograd.grad(loss.value, [new.value])[0].tolist() == [[0.0, -3.0]]
    assert float(loss.metrics["value_clip_ratio"]) == 0.5
    free = ActorCritic(SEPO(), vf_coef=2.0, collected=True).loss(new, old, None, credit, two_views())
    assert free.value.item() == pytest.approx(2.0 * (3 * 0.5**2 + 1.5**2) / 2)


def test_the_value_of_a_view_does_not_depend_on_the_views_beside_it() -> None:
    """Forwards run at as many sites as the fullest view of the batch rates."""
    policy = judged(denoisers(SMALL)["noisy"], torch.randn(64, 3).double())
    path = all_paths(SMALL)[:4]
    views = AllSites(None)(path, policy.process, unused(path))
    together = read_with_value(policy, views, AllSites(None).read).value
    assert together is not None
    for view in range(3):
        tensors = {name: tensor[:, view : view + 1] for name, tensor in views.tensors().items() if name != "free"}
        alone = replace(views, **tensors)
        found = read_with_value(policy, alone, AllSites(None).read).value
        assert found is not None
        torch.testing.assert_close(found[:, 0], together[:, view])


def test_all_sites_read_the_mean_over_masked_sites() -> None:
    policy = denoisers(SMALL)["noisy"]
    values = site_values(policy, SMALL, random_reward(SMALL))
    path = all_paths(SMALL)[:1]
    views = AllSites(None)(path, policy.process, unused(path))
    found = read_with_value(judged(policy, values), views, AllSites(None).read).value
    assert found is not None
    expected = state_values(policy, SMALL, random_reward(SMALL))[SMALL.state_index(views.xt[0])]
    torch.testing.assert_close(found[0], expected.to(found))


class Learning(Judged):
    """The table of logits beside a critic on fixed random features of the state and the site."""

    def __init__(self, table: Table, width: int = 48) -> None:
        world = table.world
        super().__init__(table, torch.zeros(0))
        generator = torch.Generator().manual_seed(0)
        embedding = torch.randn(world.length, world.letters + 1, width, generator=generator)
        mixed = sum(embedding[site][world.states[:, site]] for site in range(world.length))
        place = torch.randn(world.length, width, generator=generator)
        self.register_buffer("hidden", torch.tanh((mixed.unsqueeze(1) + place) / 2))
        self.critic = Critic(width)

    def forward(self, xt: Tensor, sigma: Tensor, attend: Tensor | None = None, sites: Tensor | None = None):
        index = self.table.world.state_index(xt)
        logits, values = self.table(xt), self.critic(self.hidden[index])
        return (logits, values) if sites is None else (rows(logits, sites), values.gather(1, sites))


def test_the_critic_of_a_frozen_policy_learns_the_exact_values() -> None:
    """Root mean square error over the states as they are visited, in shares of the spread of the reward."""
    world, reward = SMALL, random_reward(SMALL)
    frozen = denoisers(world)["noisy"]
    assert isinstance(frozen.network, Table)
    frozen.network.requires_grad_(False)
    policy = replace(frozen, network=Learning(frozen.network), call=Valued())
    exact, weight = state_values(frozen, world, reward), visits(frozen, world)
    masked = world.states == world.letters
    weight = weight * masked.any(1)

    def error() -> float:
        with torch.no_grad():
            _, values = policy.network(world.states, at_time(0.5, len(world.states)))
        mean = (values * masked).sum(1) / masked.sum(1).clamp_min(1)
        return float(((weight * (mean - exact).square()).sum() / weight.sum()).sqrt())

    every, objective = Paths.of(policy, world), policy_term(vf_coef=1.0)
    credit, views = at_views(reward[world.index(every.paths.x0)], world.length), every.views(objective)
    optimizer = torch.optim.Adam(policy.network.critic.parameters(), lr=1e-2)
    before = error()
    for _ in range(200):
        new = objective.read(policy, views)
        objective.loss(new, new.detach(), None, credit.at(views.step), views).value.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert error() < 0.005 * float(reward.std()) < before


def test_a_network_without_a_critic_is_named() -> None:
    policy, path = denoisers(SMALL)["noisy"], all_paths(SMALL)[:2]
    objective = policy_term()
    views = objective.views(path, policy.process, unused(path))
    with pytest.raises(ValueError, match=r"Table has no critic.*use_critic=True"):
        objective.read(policy, views)


@pytest.mark.parametrize(("name", "value"), [("vf_coef", -1.0), ("cliprange_value", 0.0)])
def test_impossible_options_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}={value}"):
        ActorCritic(SEPO(), **{name: value})
