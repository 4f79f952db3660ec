"""A few cells of the laboratory: exact gradients where they are claimed, and the way to the optimum."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("lab_worlds", "laboratory", "methods", "gradient_quality", "convergence")


@pytest.fixture(scope="module")
def lab() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})


@pytest.fixture(scope="module")
def half(lab):
    """The chain, with a network that is far from consistent."""
    world = lab.lab_worlds.LAB_WORLDS[0]
    return world, lab.lab_worlds.pretrained(world, "absorbing", steps=40)


def setting(lab, half, name: str):
    world, policy = half
    [method] = [each for each in lab.methods.methods("absorbing") if each.name == name]
    sampler = lab.laboratory.sampler_of(method, "absorbing", 6)
    return lab.laboratory.Setting(world.world, world.reward(world.world), world.beta, policy, sampler), method


def test_every_state_is_exact_for_reward_less_kl_and_all_sites_is_not(lab, half) -> None:
    policy = half[1]
    for name, exact in (("sepo, not regressed", True), ("sepo, all sites, every state", False)):
        where, method = setting(lab, half, name)
        start = lab.gradient_quality.moved(where, policy, 2)
        found = lab.gradient_quality.quality(where, method, start, start, batches=4, batch=16)
        assert found["bias_error"] == 0
        assert (found["relative_bias"] < 1e-5) == exact
        assert found["evaluations"] == 4 + 4 + 4  # rollout, reference, update


def test_the_worlds_state_laws_that_sum_to_one_and_rewards_between_zero_and_one(lab) -> None:
    for world in lab.lab_worlds.LAB_WORLDS:
        law, reward = world.law(world.world), world.reward(world.world)
        assert float(law.sum()) == pytest.approx(1)
        assert 0 <= float(reward.min()) < float(reward.max()) <= 1


def test_a_mean_that_is_nothing_but_its_error_has_no_direction(lab, half) -> None:
    """Everything masked at once: the mean field sees no gradient of a reward that only pairs of sites decide."""
    ising = lab.lab_worlds.LAB_WORLDS[1]
    flat = lab.lab_worlds.pretrained(ising, "absorbing", steps=1)
    with torch.no_grad():
        for weight in flat.network.parameters():
            weight.zero_()
    where, method = setting(lab, (ising, flat), "diffu_grpo")
    found = lab.gradient_quality.quality(where, method, flat, flat, batches=6, batch=32)
    assert found["variance"] == found["variance"] and abs(found["cosine"]) <= 1


def test_fine_tuning_comes_closer_to_the_optimum_within_its_budget(lab, half) -> None:
    where, method = setting(lab, half, "sepo")
    settings = lab.convergence.Settings(budget=12_000)
    before = lab.convergence.law_of(where, half[1])
    start = lab.convergence.standing(where, half[1], before, 0)
    found = lab.convergence.fine_tune(where, method, settings, rate=3e-3, seed=0)
    assert len(found) == 8 and found[-1]["evaluations"] >= 12_000
    assert found[-1]["total_variation"] < 0.6 * start["total_variation"]


def test_every_method_of_the_library_is_in_the_laboratory(lab) -> None:
    from sepo.objectives.algorithms import ALGORITHMS

    names = {each.name for each in lab.methods.methods("absorbing")}
    assert set(ALGORITHMS) - set(lab.methods.LEFT_OUT) <= names
