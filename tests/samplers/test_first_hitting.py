"""First-hitting: exact on enumerable laws, several sites per step, times of the continuous process."""

from __future__ import annotations

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.schedule import SCHEDULES
from sepo.evaluation.exact import first_hitting_law, shares, total_variation
from sepo.evaluation.worlds import World, ideal_uniform, markov_chain, tabular
from sepo.ops import Chance
from sepo.samplers import FirstHitting, roll
from sepo.samplers.filling import hitting_times
from tests.worlds import DEEP, SMALL, Written, denoisers, deviations


@pytest.mark.parametrize("world", [SMALL, DEEP, World(4, 3)], ids=str)
def test_its_law_with_the_ideal_denoiser_is_the_data(world: World) -> None:
    law = markov_chain(world, seed=8, sharpness=2.0)
    assert float(total_variation(first_hitting_law(tabular(world, law), world).detach(), law)) < 1e-12


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["ideal", "arbitrary"])
def test_several_sites_per_step_follow_their_enumerated_law(kind: str, steps: int) -> None:
    policy = denoisers(DEEP)[kind]
    path = roll(FirstHitting(steps), policy, Canvas.blank(6000, 4), Chance.of(steps, 6000))
    assert isinstance(path, MaskedPath) and path.steps == steps
    assert policy.meter.evaluations == steps * 6000
    assert abs(deviations(DEEP, path.x0, first_hitting_law(policy, DEEP, steps))) < 4
    sizes = path.revealed(torch.arange(steps).expand(6000, -1)).sum(-1)
    assert (sizes == torch.tensor(shares(4, steps))).all()


def test_fewer_steps_are_further_from_the_data() -> None:
    law = markov_chain(DEEP, seed=1)
    policy = denoisers(DEEP)["ideal"]
    errors = [float(total_variation(first_hitting_law(policy, DEEP, steps).detach(), law)) for steps in (1, 2, 4)]
    assert errors[0] > 2 * errors[1] and errors[1] > 0.01 and errors[2] < 1e-12


def test_several_sites_are_read_at_the_time_of_the_first_of_them() -> None:
    """Of three sites in two steps the first step reveals two, the second the last one."""
    policy = denoisers(SMALL)["ideal"]
    single, several = (roll(FirstHitting(n), policy, Canvas.blank(30, 3), Chance.of(0, 30)) for n in (None, 2))
    assert isinstance(single, MaskedPath) and isinstance(several, MaskedPath)
    assert torch.equal(several.times, single.times[:, [0, 2]])
    assert torch.equal(several.order, torch.tensor([0, 0, 1])[single.order])


def test_a_row_with_few_free_sites_takes_no_more_steps_than_it_has_sites() -> None:
    free = torch.tensor([[True, False, False, True], [True, True, True, True]])
    path = roll(
        FirstHitting(3), denoisers(DEEP)["ideal"], Canvas(torch.zeros(2, 4, dtype=torch.long), free), Chance.of(0, 2)
    )
    assert isinstance(path, MaskedPath)
    assert path.active().tolist() == [[True, True, False], [True, True, True]]


def test_every_order_of_the_sites_is_equally_likely() -> None:
    path = roll(FirstHitting(), denoisers(SMALL)["ideal"], Canvas.blank(6000, 3), Chance.of(0, 6000))
    assert isinstance(path, MaskedPath)
    counts = (path.order * torch.tensor([9, 3, 1])).sum(1).unique(return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts - 1000).abs() < 4 * (6000 / 6 * 5 / 6) ** 0.5).all()


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_times_are_those_at_which_masks_become_tokens(schedule: str) -> None:
    """The probability that a site is still masked at s is (1 - alpha(s)) / (1 - alpha(1)): uniform numbers."""
    chosen = SCHEDULES[schedule]()
    policy = tabular(SMALL, markov_chain(SMALL), schedule=chosen)
    path = roll(FirstHitting(), policy, Canvas.blank(4000, 3), Chance.of(1, 4000))
    assert isinstance(path, MaskedPath)
    assert (path.times.diff(dim=1) <= 0).all()
    ends = torch.ones((), dtype=torch.double)
    uniform = (1 - chosen.alpha(path.times.double())) / (1 - chosen.alpha(ends))
    largest, smallest = uniform[:, 0], uniform[:, -1]  # of three: means 3/4 and 1/4
    assert largest.mean().item() == pytest.approx(0.75, abs=4 * 0.194 / 4000**0.5)
    assert smallest.mean().item() == pytest.approx(0.25, abs=4 * 0.194 / 4000**0.5)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_hitting_times_stay_in_the_unit_interval_at_the_ends_of_chance(schedule: str) -> None:
    """Some schedules leave masks at t = 0: those sites hit there, not before."""
    policy = tabular(SMALL, markov_chain(SMALL), schedule=SCHEDULES[schedule]())
    canvas = Canvas(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[True, True, False]]))
    hits = hitting_times(policy, canvas, Written.down(torch.tensor([[0.0, 1 - 2**-53, 0.5]], dtype=torch.double)))
    assert hits[0, 0] == 0 and 1 - 1e-6 < hits[0, 1] <= 1 and hits[0, 2] == -1


def test_it_refuses_a_process_without_masks_and_a_count_below_one() -> None:
    policy = ideal_uniform(SMALL, markov_chain(SMALL))
    with pytest.raises(ValueError, match=r"FirstHitting fills masks.*Uniform.*use Ancestral"):
        roll(FirstHitting(), policy, Canvas.blank(1, 3), Chance.of(0, 1))
    with pytest.raises(ValueError, match=r"steps=0"):
        FirstHitting(0)
