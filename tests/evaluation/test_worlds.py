"""Worlds: counting, ideal denoisers against brute force, arbitrary ones that contradict themselves."""

from __future__ import annotations

import pytest
import torch

from sepo.evaluation.worlds import (
    World,
    at_time,
    count,
    ideal_uniform,
    markov_chain,
    parity,
    probabilities,
    random_reward,
    random_table,
    tabular,
)
from tests.worlds import SMALL


@pytest.mark.parametrize("world", [SMALL, World(2, 5), World(4, 2)], ids=str)
def test_every_sequence_and_state_is_listed_once_and_found_again(world: World) -> None:
    assert len(world.sequences.unique(dim=0)) == world.letters**world.length
    assert len(world.states.unique(dim=0)) == (world.letters + 1) ** world.length
    assert torch.equal(world.index(world.sequences), torch.arange(len(world.sequences)))
    assert torch.equal(world.state_index(world.states), torch.arange(len(world.states)))


def test_the_ideal_denoiser_is_the_conditional_of_the_data() -> None:
    law = markov_chain(SMALL, seed=5)
    found = probabilities(tabular(SMALL, law), SMALL.states).detach()
    for state, answer in zip(SMALL.states, found, strict=True):
        agreeing = ((SMALL.sequences == state) | (state == 3)).all(1)
        for site in (state == 3).nonzero().flatten():
            for letter in range(3):
                event = agreeing & (SMALL.sequences[:, site] == letter)
                assert answer[site, letter].item() == pytest.approx((law[event].sum() / law[agreeing].sum()).item())


def test_the_ideal_uniform_denoiser_is_the_posterior_of_the_data() -> None:
    world = World(3, 2)
    law, policy = markov_chain(world, seed=5), ideal_uniform(world, markov_chain(world, seed=5))
    t = at_time(0.6, 9)
    found = policy.log_posterior(world.sequences, t).exp()
    alpha = policy.process.schedule.alpha(t[0])
    for row, xt in enumerate(world.sequences):
        agreement = torch.where(world.sequences == xt, alpha + (1 - alpha) / 3, (1 - alpha) / 3).prod(1)
        joint = law * agreement / (law * agreement).sum()
        for site in range(2):
            for letter in range(3):
                expected = joint[world.sequences[:, site] == letter].sum().item()
                assert found[row, site, letter].item() == pytest.approx(expected, abs=1e-6)


def test_laws_are_normalised_and_rewards_are_what_they_say() -> None:
    assert markov_chain(SMALL, 3).sum().item() == pytest.approx(1)
    assert not torch.allclose(markov_chain(SMALL, 3), markov_chain(SMALL, 4))
    at = SMALL.index(torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 2]]))
    assert parity(SMALL)[at].tolist() == [1, 0, 1]
    assert count(SMALL, letter=1)[at].tolist() == [0, 1, 2]
    assert torch.equal(random_reward(SMALL, 1), random_reward(SMALL, 1))


def inconsistency(policy_probabilities: torch.Tensor, world: World) -> float:
    """The largest difference between p(a) p(b | a) and p(b) p(a | b) for the first two sites, the others masked."""
    masks = torch.full((1, world.length), world.letters)

    def at(*tokens: int) -> torch.Tensor:
        state = masks.clone()
        state[0, : len(tokens)] = torch.tensor(tokens)
        return policy_probabilities[world.state_index(state)[0]]

    worst = 0.0
    for a in range(world.letters):
        for b in range(world.letters):
            forward = at()[0, a] * at(a)[1, b]
            backward = at()[1, b] * at(world.letters, b)[0, a]
            worst = max(worst, float((forward - backward).abs()))
    return worst


def test_noise_makes_a_denoiser_contradict_itself() -> None:
    law = markov_chain(SMALL)
    found = [
        inconsistency(probabilities(policy, SMALL.states).detach(), SMALL)
        for policy in (tabular(SMALL, law), tabular(SMALL, law, noise=0.1), random_table(SMALL))
    ]
    assert found[0] < 1e-12 and 1e-4 < found[1] < found[2]


def test_worlds_too_large_to_enumerate_are_refused() -> None:
    with pytest.raises(ValueError, match=r"letters=4, length=10.*262144"):
        World(4, 10)
    with pytest.raises(ValueError, match=r"letters=1"):
        World(1, 3)
