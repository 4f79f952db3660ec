"""Exact gradients by one pass over the states, against automatic differentiation of the objective itself."""

from __future__ import annotations

import pytest
import torch

from sepo.evaluation import values
from sepo.evaluation.exact import expected_reward, path_divergence
from sepo.evaluation.values import objective_and_gradient
from sepo.evaluation.worlds import World, random_reward, random_table
from tests.worlds import SMALL


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("world", [SMALL, World(2, 5)], ids=str)
@pytest.mark.parametrize("at_once", [7, 10_000])
def test_the_pass_over_states_is_the_derivative_of_the_objective(
    world: World, beta: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "AT_ONCE", at_once)
    policy, reference, reward = random_table(world, 1), random_table(world, 2), random_reward(world)
    value, gradient = objective_and_gradient(policy, reference, world, reward, beta)
    expected = expected_reward(policy, world, reward) - beta * path_divergence(policy, reference, world)
    assert value == pytest.approx(float(expected.detach()))
    derivative = torch.autograd.grad(expected, [*policy.network.parameters()])
    assert float(derivative[0].abs().max()) > 1e-3
    for found, part in zip(gradient, derivative, strict=True):
        torch.testing.assert_close(found, part)
