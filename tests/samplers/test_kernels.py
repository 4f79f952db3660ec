"""Ancestral and tau-leaping: their kernels are laws, and agree where theory says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.meaning import Score
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.schedule import SCHEDULES, Cosine
from sepo.evaluation.exact import kernel_law, total_variation
from sepo.evaluation.worlds import ideal_uniform, markov_chain, random_table, tabular
from sepo.ops import Chance
from sepo.samplers import Ancestral, KernelSampler, TauLeaping, roll
from tests.worlds import SMALL, at_step, deviations

DATA = markov_chain(SMALL, seed=1)


@pytest.mark.parametrize("kind", [Ancestral, TauLeaping])
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_kernels_are_laws_at_every_step(kind: type, schedule: str) -> None:
    sampler = kind(5)
    assert isinstance(sampler, KernelSampler)
    for policy, space in (
        (tabular(SMALL, DATA, schedule=SCHEDULES[schedule]()), SMALL.states),
        (ideal_uniform(SMALL, DATA, SCHEDULES[schedule]()), SMALL.sequences),
    ):
        for step in range(5):
            kernel = sampler.kernel(policy, space, at_step(step, space)).detach()
            assert (kernel >= -1e-9).all()
            torch.testing.assert_close(kernel.sum(-1), torch.ones_like(kernel[..., 0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_both_converge_under_every_schedule(kind: str, schedule: str) -> None:
    chosen = SCHEDULES[schedule]()
    policy = tabular(SMALL, DATA, schedule=chosen) if kind == "absorbing" else ideal_uniform(SMALL, DATA, chosen)
    with torch.no_grad():
        for sampler in (Ancestral, TauLeaping):
            coarse, fine = (float(total_variation(kernel_law(sampler(n), policy, SMALL), DATA)) for n in (32, 128))
            assert fine < 0.4 * coarse and fine < 0.04


def test_with_loglinear_and_a_normalised_score_they_are_one_sampler_of_masks() -> None:
    policy = random_table(SMALL)
    for steps in (2, 5):
        laws = [kernel_law(sampler, policy, SMALL) for sampler in (Ancestral(steps), TauLeaping(steps))]
        torch.testing.assert_close(*laws, rtol=1e-6, atol=1e-7)


def test_with_another_schedule_they_differ() -> None:
    policy = tabular(SMALL, DATA, schedule=Cosine())
    laws = [kernel_law(sampler, policy, SMALL).detach() for sampler in (Ancestral(4), TauLeaping(4))]
    assert float(total_variation(*laws)) > 0.01


def test_tau_leaping_obeys_a_score_that_is_not_normalised() -> None:
    """A score twice too large reveals masks twice as often; the tokens keep their law."""
    policy = replace(random_table(SMALL), meaning=Score(scale_by_sigma=False))
    masks = torch.full((1, 3), 3)
    with torch.no_grad():
        logits = policy.network.logits
        logits[..., :3] = logits[..., :3].log_softmax(-1) - 8
        before = TauLeaping(8).kernel(policy, masks, at_step(0, masks))[0]
        logits += torch.tensor(2.0).log()
        after = TauLeaping(8).kernel(policy, masks, at_step(0, masks))[0]
    assert (before[:, :3] > 0).all()
    torch.testing.assert_close(after[:, :3], 2 * before[:, :3], rtol=1e-5, atol=0)


def test_steps_that_are_too_long_are_cut_to_certainty() -> None:
    policy = ideal_uniform(SMALL, markov_chain(SMALL, seed=2, sharpness=4.0))
    kernel = TauLeaping(2).kernel(policy, SMALL.sequences, at_step(0, SMALL.sequences)).detach()
    assert kernel.max() <= 1 + 1e-6 and kernel.min() >= 0


def test_a_grid_of_one_step_draws_every_site_from_the_first_posterior() -> None:
    policy = random_table(SMALL)
    path = roll(Ancestral(1), policy, Canvas.blank(5000, 3), Chance.of(0, 5000))
    assert isinstance(path, MaskedPath) and (path.order == 0).all()
    law = policy.log_posterior(torch.full((1, 3), 3), torch.ones(1))[0, :, :3].exp().detach()
    product = law[0][:, None, None] * law[1][None, :, None] * law[2][None, None, :]
    assert abs(deviations(SMALL, path.x0, product.flatten())) < 4


def test_a_long_grid_costs_no_more_evaluations_than_there_are_sites() -> None:
    policy = tabular(SMALL, DATA)
    roll(Ancestral(1000), policy, Canvas.blank(20, 3), Chance.of(0, 20))
    assert policy.meter.evaluations <= 60


@pytest.mark.parametrize("kind", [Ancestral, TauLeaping])
def test_a_grid_without_steps_is_refused(kind: type) -> None:
    with pytest.raises(ValueError, match=r"steps=0.*at least 1"):
        kind(0)
