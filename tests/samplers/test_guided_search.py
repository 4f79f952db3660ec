"""SVDD and best of n against their enumerated laws."""

from __future__ import annotations

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.evaluation.exact import first_hitting_law, optimum, total_variation
from sepo.evaluation.worlds import Law, count
from sepo.ops import Chance
from sepo.samplers import (
    Ancestral,
    FirstHitting,
    roll,
)
from sepo.samplers.guided import (
    SVDD,
    BestOfN,
)
from tests.samplers.tilted import (
    BETA,
    INNER,
    REWARD,
    by_table,
    distance,
    each_process,
    exact_value,
    law_of,
    policies,
)
from tests.worlds import SMALL, deviations


@each_process
def test_svdd_with_the_soft_value_goes_from_the_inner_sampler_to_the_tilted_law(process: str) -> None:
    policy, reward = policies()[process], by_table(REWARD)
    inner = law_of(INNER, policy)
    value = exact_value(INNER, policy, REWARD, BETA)
    alone = roll(SVDD(INNER, reward, 1, BETA, value), policy, Canvas.blank(4000, 3), Chance.of(0, 4000)).x0
    assert abs(deviations(SMALL, alone, inner)) < 4
    goal = optimum(inner, REWARD, BETA)
    errors = [distance(SVDD(INNER, reward, m, BETA, value), policy, goal, 4096) for m in (3, 60)]
    estimated = distance(SVDD(INNER, reward, 20, BETA), policy, goal, 4096)
    print(f"SVDD, {process}: {errors}, by argmax fill {estimated:.3f}")
    assert float(total_variation(inner, goal)) > 1.5 * errors[0] > 3 * errors[1] and errors[1] < 0.05


def order_statistics(law: Law, reward: Law, n: int) -> Law:
    found = torch.zeros_like(law)
    for level in reward.unique():
        here, up_to, below = reward == level, law[reward <= level].sum(), law[reward < level].sum()
        found[here] = law[here] / law[here].sum() * (up_to**n - below**n)
    return found


@pytest.mark.parametrize("reward", [REWARD, count(SMALL)], ids=["random", "ties"])
def test_the_best_of_n_follows_the_law_of_order_statistics(reward: Law) -> None:
    policy = policies()["absorbing"]
    law = first_hitting_law(policy, SMALL).detach()
    path = roll(BestOfN(FirstHitting(), by_table(reward), 4), policy, Canvas.blank(5000, 3), Chance.of(0, 5000))
    assert abs(deviations(SMALL, path.x0, order_statistics(law, reward, 4))) < 4
    once = order_statistics(law_of(Ancestral(1), policy), reward, 4)
    drawn = roll(SVDD(Ancestral(1), by_table(reward), 4), policy, Canvas.blank(5000, 3), Chance.of(0, 5000)).x0
    assert abs(deviations(SMALL, drawn, once)) < 4  # SVDD takes the best too, of one step
