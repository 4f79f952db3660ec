"""What a state tells of its return: learnt from other sequences alone, followed only where it helps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.worlds import World, count, markov_chain, parity, probabilities, tabular
from sepo.objectives import Advantage
from sepo.objectives.advantages import leave_one_out, unit
from sepo.objectives.baselines import MOST_FEATURES, StateRegression, revealed_tokens
from sepo.ops import Chance
from sepo.samplers import Ancestral, FirstHitting, roll

WORLD = World(letters=3, length=4)
POLICY = tabular(WORLD, markov_chain(WORLD, seed=1))


def path(batch: int = 64, seed: int = 0) -> MaskedPath:
    found = roll(FirstHitting(), POLICY, Canvas.blank(batch, WORLD.length), Chance.of(seed, batch))
    assert isinstance(found, MaskedPath)
    return found


def returns(rollout: MaskedPath, reward: Tensor) -> Tensor:
    return reward[WORLD.index(rollout.x0)].unsqueeze(1).expand(-1, rollout.steps).clone()


def test_features_are_the_tokens_that_are_there_before_a_step():
    rollout = path(8)
    features = revealed_tokens(rollout, rollout.steps, POLICY.process).unflatten(2, (WORLD.length, 4))
    for row in range(8):
        for step in range(rollout.steps):
            for site in range(WORLD.length):
                expected = torch.zeros(4)
                if rollout.order[row, site] < step:
                    expected[rollout.x0[row, site]] = 1.0
                assert torch.equal(features[row, step, site], expected)


def test_states_that_revisit_sites_are_told_by_all_their_tokens():
    rollout = roll(Ancestral(3), POLICY, Canvas.blank(4, WORLD.length), Chance.of(0, 4))
    assert revealed_tokens(rollout, rollout.steps, POLICY.process).shape == (4, 3, 16)


def test_an_additive_reward_is_told_by_the_tokens_that_are_there():
    rollout = path(256)
    given = returns(rollout, count(WORLD))
    features = revealed_tokens(rollout, rollout.steps, POLICY.process)
    left = given - StateRegression()(features, given, 256)
    assert left[:, -1].var() < 0.35 * given[:, -1].var()
    assert torch.equal(left[:, 0], given[:, 0])  # nothing is there before the first step


def test_a_reward_that_no_token_tells_is_left_alone():
    seeds = range(5)
    for seed in seeds:
        rollout = path(128, seed)
        noise = torch.randn(128, 1, generator=torch.Generator().manual_seed(seed)).expand(-1, rollout.steps).clone()
        told = StateRegression(evidence=4.0)(revealed_tokens(rollout, rollout.steps, POLICY.process), noise, 128)
        assert (told == 0).all()


def test_what_is_taken_from_a_sequence_does_not_depend_on_its_own_return():
    rollout = path(32)
    given = returns(rollout, count(WORLD))
    features = revealed_tokens(rollout, rollout.steps, POLICY.process)
    regression = StateRegression(evidence=0.0)
    before = regression(features, given, 32)
    assert before.abs().max() > 0.1
    for row in (0, 1, 6):
        changed = given.clone()
        changed[row] += 5.0
        after = regression(features, changed, 32)
        assert torch.equal(after[row], before[row])
        assert not torch.equal(after, before)


def test_the_advantage_has_less_variance_and_the_same_mean_gradient():
    """Weighted by d log p / d logit of the last token, as a gradient weighs it: means agree within their errors."""
    plain, regressed = Advantage(leave_one_out, unit), Advantage(leave_one_out, unit, states=StateRegression())
    found: dict[str, list[float]] = {"plain": [], "regressed": []}
    for seed in range(200):
        rollout = path(32, seed)
        given = returns(rollout, count(WORLD))
        features = revealed_tokens(rollout, rollout.steps, POLICY.process)
        last = rollout.order == rollout.steps - 1
        law = probabilities(POLICY, rollout.x0.masked_fill(last, WORLD.letters)).detach()[last]
        slope = (rollout.x0[last] == 0).double() - law[:, 0]
        for name, advantage in (("plain", plain(given, 32)), ("regressed", regressed(given, 32, features))):
            found[name].append(float((advantage[:, -1] * slope).mean()))
    first, second = (torch.tensor(each) for each in found.values())
    assert second.var() < 0.7 * first.var()
    error = ((first.var() + second.var()) / 200).sqrt()
    assert (first.mean() - second.mean()).abs() < 4 * error


@pytest.mark.parametrize(("size", "features"), [(2, 4), (32, MOST_FEATURES + 1)])
def test_groups_and_alphabets_that_do_not_fit_are_left_alone(size: int, features: int):
    told = StateRegression()(torch.rand(32, 3, features), torch.randn(32, 3), size)
    assert (told == 0).all()


def test_sequences_without_a_return_teach_nothing():
    rollout = path(32)
    given = returns(rollout, parity(WORLD)).float()
    given[[0, 5]] = float("nan")
    told = StateRegression()(revealed_tokens(rollout, rollout.steps, POLICY.process), given, 32)
    assert not told.isnan().any()
