"""The released update: its numbers against the description read word by word, its cost, and what it fails to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import Reading, Views
from sepo.evaluation.worlds import World, ideal_uniform, markov_chain, random_table
from sepo.objectives import Credit
from sepo.objectives.sepo_released import Released, SepoReleased
from sepo.ops import Chance
from sepo.samplers import Ancestral, FirstHitting, roll
from tests.worlds import SMALL

POLICY = random_table(SMALL, seed=1)
OTHER = random_table(SMALL, seed=2)
D, M, MASK = 4, 2, 3


def rollout(batch: int = 2, world: World = SMALL, policy: Denoiser = POLICY) -> MaskedPath:
    path = roll(FirstHitting(), policy, Canvas.blank(batch, world.length), Chance.of(0, batch))
    assert isinstance(path, MaskedPath)
    return path


def views(objective: Released, path: MaskedPath, policy: Denoiser = POLICY, seed: int = 1) -> Views:
    return objective.views(path, policy.process, Chance.of(seed, len(path)))


def readings(objective: Released, seen: Views, new: Denoiser, old: Denoiser) -> tuple[Reading, Reading]:
    with torch.no_grad():
        before = objective.read(old, seen)
    return objective.read(new, seen), before


def raw(policy: Denoiser, x: list[int]) -> torch.Tensor:
    return policy.raw_logits(torch.tensor([x]), torch.zeros(1))[0].detach()


def test_pi_is_the_harmonic_mean_at_the_position_numbered_as_the_draw():
    objective, path = Released(), rollout()
    seen = views(objective, path)
    assert seen.draws is not None
    found = dict(zip((1, 0), readings(objective, seen, POLICY, OTHER), strict=True))
    for row in range(2):
        for site in range(3):
            for token in range(D):
                y = path.x0[row].tolist()
                y[site] = token
                for which, policy in ((1, POLICY), (0, OTHER)):
                    law = raw(policy, y).softmax(-1) * 0.999 / 128
                    law[:, MASK] = 0
                    inverse = 0.0
                    for m in range(M):
                        u = seen.draws.view(2, 3, 2, D, M)[row, site, which, token, m]
                        z = int((law[m].cumsum(0) <= u * law[m].sum()).sum())
                        inverse += 1 / float(law[m, z]) / M
                    q = found[which].q
                    assert q is not None and float(q[row, 0, site, token]) == pytest.approx(1 / inverse, rel=1e-6)


@pytest.mark.parametrize("advantages", [[1.0, -0.5], [-1.0, 0.3], [-1.0, -2.0]])
def test_the_loss_is_one_minimum_of_two_numbers(advantages: list[float]):
    objective, path = Released(), rollout()
    seen = views(objective, path)
    new, old = readings(objective, seen, POLICY, OTHER)
    assert new.q is not None and old.q is not None
    free, clipped = 0.0, 0.0
    for row, advantage in enumerate(advantages):
        x = path.x0[row].tolist()
        log_s, log_s_old = raw(POLICY, x).log_softmax(-1), raw(OTHER, x).log_softmax(-1)
        for site in range(3):
            for token in range(D):
                pi, before = float(new.q[row, 0, site, token]), float(old.q[row, 0, site, token])
                r = pi / before * float((log_s_old[site, token] - log_s[site, token]).exp())
                term = advantage / 2 * pi * float(log_s[site, token])
                free, clipped = free + r * term, clipped + min(max(r, 0.8), 1.2) * term
    value = objective.loss(new, old, None, Credit.of(torch.tensor(advantages)), seen).value
    assert value.item() == pytest.approx(min(free, clipped), rel=1e-6)


def test_the_gradient_reaches_only_the_clean_logits():
    """One evaluation per sequence carries it; the masked states that a sampler reads learn through sharing alone."""
    objective, path = Released(), rollout()
    seen = views(objective, path)
    policy = replace(POLICY, meter=Meter())
    new, old = readings(objective, seen, policy, policy)
    assert policy.meter.with_gradient == 2
    value = objective.loss(new, old, None, Credit.of(torch.tensor([1.0, -0.5])), seen).value
    slope = torch.autograd.grad(value, [*policy.network.parameters()])[0]
    moved = (slope != 0).flatten(1).any(1).nonzero().flatten()
    assert sorted(moved.tolist()) == sorted(SMALL.state_index(path.x0).unique().tolist())


@pytest.mark.parametrize("draws", [1, 2])
@pytest.mark.parametrize("world", [SMALL, World(letters=2, length=4)], ids=str)
def test_an_update_costs_what_the_released_code_spends(world: World, draws: int):
    policy = replace(random_table(world, seed=1), meter=Meter())
    batch, length, ids = 5, world.length, world.letters + 1
    path = rollout(batch, world, policy)
    spent = {}
    for dead in (True, False):
        objective = Released(draws=draws, dead_forwards=dead)
        seen, start = views(objective, path, policy), policy.meter.evaluations
        readings(objective, seen, policy, policy)
        spent[dead] = policy.meter.evaluations - start
    assert spent[True] == 2 * batch * length * ids * (1 + draws) + 2 * batch
    assert spent[False] == 2 * batch * length * ids + 2 * batch


def test_the_dead_forwards_change_nothing():
    path = rollout()
    seen = views(Released(), path)
    first, second = (Released(dead_forwards=dead).read(POLICY, seen) for dead in (True, False))
    assert torch.equal(first.log_prob, second.log_prob)
    assert first.q is not None and second.q is not None and torch.equal(first.q, second.q)


def test_the_ratio_of_a_policy_to_itself_is_not_one():
    objective, path = Released(), rollout(64)
    new, old = readings(objective, views(objective, path), POLICY, POLICY)
    assert new.q is not None and old.q is not None
    ratio = new.q / old.q
    outside = ((ratio < 0.8) | (ratio > 1.2)).double().mean()
    assert float(ratio.std()) > 0.3 and float(outside) > 0.3


def test_sequences_shorter_than_the_draws_use_what_there_is():
    new = Released(draws=9).read(POLICY, views(Released(draws=9), rollout()))
    assert new.q is not None and new.q.isfinite().all() and (new.q > 0).all()


def test_given_sites_take_no_part():
    free = torch.tensor([[False, True, True], [True, True, True]])
    canvas = Canvas(torch.zeros(2, 3, dtype=torch.long), free)
    path = roll(FirstHitting(), POLICY, canvas, Chance.of(0, 2))
    objective = Released()
    seen = objective.views(path, POLICY.process, Chance.of(1, 2))
    new, old = readings(objective, seen, POLICY, OTHER)
    value = objective.loss(new, old, None, Credit.of(torch.tensor([1.0, 0.0])), seen).value
    slope = torch.autograd.grad(value, [*POLICY.network.parameters()])[0]
    assert (slope[:, 0] == 0).all() and (slope[:, 1:] != 0).any()


def test_a_process_without_masks_and_options_without_sense_are_refused():
    policy = ideal_uniform(SMALL, markov_chain(SMALL))
    path = roll(Ancestral(3), policy, Canvas.blank(2, 3), Chance.of(0, 2))
    with pytest.raises(ValueError, match="absorbing process"):
        SepoReleased().objective().views(path, policy.process, Chance.of(0, 2))
    with pytest.raises(ValueError, match=r"draws=0, steps=128.*at least 1"):
        Released(draws=0)
