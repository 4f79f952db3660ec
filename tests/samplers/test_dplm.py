"""DPLM's decoding against a transcription of the released one, row by row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.rollout import StatePath
from sepo.evaluation.exact import total_variation
from sepo.evaluation.worlds import ideal_uniform, markov_chain, probabilities, random_table, tabular
from sepo.ops import Chance
from sepo.samplers import DPLM, roll
from tests.worlds import DEEP, SMALL, deviations


def drawn(sampler: DPLM, policy, canvas: Canvas, seed: int = 0) -> StatePath:
    path = roll(sampler, policy, canvas, Chance.of(seed, len(canvas)))
    assert isinstance(path, StatePath)
    return path


def released(logits: Tensor, state: Tensor, free: Tensor, step: int, steps: int, mask: int, noise: Tensor) -> Tensor:
    """One step of `_reparam_decoding` of one row: reparam-uncond-deterministic-linear with gumbel_argmax."""
    score, token = (logits + noise).log_softmax(-1).max(-1)
    score = score.masked_fill(~free, 1000.0)
    cutoff = math.floor(int(free.sum()) * (steps - step) / steps)
    lowest = score < score.sort().values[cutoff]
    was_masked = (state == mask) & free
    return torch.where(lowest, mask, torch.where(was_masked & ~lowest, token, state))


@pytest.mark.parametrize("steps", [1, 3, 4, 9])
def test_each_step_is_the_released_one(steps: int) -> None:
    policy = random_table(DEEP, seed=1)
    free = torch.tensor([[True, True, True, True], [True, False, True, True], [False, True, False, False]]).repeat(
        20, 1
    )
    path = drawn(DPLM(steps), policy, Canvas(torch.ones(60, 4, dtype=torch.long), free), seed=3)
    chance = Chance.of(3, 60)
    chance.uniform(4)  # that of the start
    for step in range(1, steps + 1):
        noise = -(-chance.uniform(4, 3).log()).log()
        before = path.states[:, step - 1]
        logits = policy.logits(before, torch.ones(60)).detach()
        for row in range(60):
            expected = released(logits[row], before[row], free[row], step, steps, 2, noise[row])
            assert torch.equal(path.states[row, step], expected)
    assert policy.meter.evaluations >= 60 * steps


def test_the_number_of_tokens_grows_evenly_and_tokens_come_and_go() -> None:
    path = drawn(DPLM(8), random_table(DEEP, seed=2), Canvas.blank(400, 4))
    there = path.states != 2
    assert (there.sum(-1) == torch.tensor([0, 1, 1, 2, 2, 3, 3, 4, 4])).all()
    assert (there[:, :-1] & ~there[:, 1:]).any()
    kept = there[:, :-1] & there[:, 1:]
    assert (path.states[:, :-1] == path.states[:, 1:])[kept].all()


def test_one_step_draws_every_site_from_the_first_posterior() -> None:
    policy = random_table(SMALL)
    path = drawn(DPLM(1), policy, Canvas.blank(5000, 3))
    law = probabilities(policy, torch.full((1, 3), 3))[0, :, :3].detach()
    product = law[0][:, None, None] * law[1][None, :, None] * law[2][None, None, :]
    assert abs(deviations(SMALL, path.x0, product.flatten())) < 4


def test_what_is_recorded_is_the_posterior_of_each_token_that_appears() -> None:
    policy = random_table(DEEP, seed=3)
    path = drawn(DPLM(4, temperature=0.5), policy, Canvas.blank(50, 4))
    for step in range(4):
        before, after = path.states[:, step], path.states[:, step + 1]
        appears = (before == 2) & (after != 2)
        law = probabilities(policy, before).detach().gather(-1, after.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(path.log_prob[:, step].exp()[appears], law[appears].float(), rtol=1e-4, atol=1e-6)
        assert (path.log_prob[:, step][~appears] == 0).all()


def test_temperature_zero_is_deterministic() -> None:
    path = drawn(DPLM(6, temperature=0.0), random_table(DEEP, seed=4), Canvas.blank(30, 4))
    assert len(path.states.unique(dim=0)) == 1


def test_it_is_biased_even_with_an_exact_denoiser() -> None:
    """About .03 in total variation here: noise that makes a token likely keeps it too."""
    law = markov_chain(SMALL, seed=1, sharpness=2.0)
    path = drawn(DPLM(12), tabular(SMALL, law), Canvas.blank(20_000, 3))
    share = SMALL.index(path.x0).bincount(minlength=27).double() / 20_000
    bias = float(total_variation(share, law))
    print(f"DPLM: total variation {bias:.3f}")
    assert bias > 0.02 and deviations(SMALL, path.x0, law) > 10


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"DPLM\(steps=0\): needs at least 1 step"):
        DPLM(0)
    with pytest.raises(ValueError, match=r"temperature=-1.0: must be 0 or more"):
        DPLM(4, temperature=-1.0)
    with pytest.raises(ValueError, match=r"DPLM fills masks.*Uniform"):
        roll(DPLM(2), ideal_uniform(SMALL, markov_chain(SMALL)), Canvas.blank(1, 3), Chance.of(0, 1))
