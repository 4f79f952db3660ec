"""What every objective must do: each reading of the table with each weight, alone and with penalties."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import Reading, Views
from sepo.evaluation.worlds import ideal_uniform, markov_chain, random_table, tabular
from sepo.objectives import SEPO, Credit, EntropyBonus, Loss, Objective, PathKL, Total
from sepo.objectives.levels import step
from sepo.objectives.readings import READINGS
from sepo.objectives.weights import WEIGHTS
from sepo.ops import Chance
from sepo.samplers import Ancestral, FirstHitting, roll
from tests.worlds import SMALL

EVERYWHERE = ("fresh_noise",)
"""Readings that are not of masked sites: any process has them."""
PENALTIES = ((0.1, PathKL()), (0.01, EntropyBonus()))


def objectives() -> dict[str, Objective]:
    plain = {
        f"{where}-{how}-{states}": SEPO(reading(states), weight())
        for where, reading in READINGS.items()
        for how, weight in WEIGHTS.items()
        for states in (2, 3)
    }
    plain |= {
        f"{name}-step": SEPO(each.reading, each.weight, level=step)
        for name, each in plain.items()
        if each.reading.of_steps and name.endswith("2")
    }
    return plain | {f"{name}-penalised": Total(each, PENALTIES) for name, each in plain.items() if "-2" in name}


def over(table: dict[str, Objective]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("objective", table.values(), ids=table.keys())


every = over(objectives())
of_masks = over({name: each for name, each in objectives().items() if not name.startswith(EVERYWHERE)})
POLICY = random_table(SMALL, seed=1)
REFERENCE = tabular(SMALL, markov_chain(SMALL), noise=0.3)


def rollouts(batch: int) -> MaskedPath:
    """Rows with three, two and one free sites."""
    free = torch.tensor([[True, True, True], [False, True, True], [False, True, False]]).repeat(batch // 3, 1)
    canvas = Canvas(torch.zeros(len(free), 3, dtype=torch.long), free)
    path = roll(FirstHitting(), POLICY, canvas, Chance.of(0, len(free)))
    assert isinstance(path, MaskedPath)
    return path


def views(objective: Objective, path: MaskedPath) -> Views:
    return objective.views(path, POLICY.process, Chance.seeded(1, range(len(path)), 1))


def loss(objective: Objective, seen: Views, advantage: Tensor, old: Reading | None = None) -> Loss:
    new = objective.read(POLICY, seen)
    reference = objective.read(REFERENCE, seen).detach() if objective.uses_reference else None
    return objective.loss(new, old or new.detach(), reference, Credit.of(advantage), seen)


def gradient(value: Tensor, policy: Denoiser = POLICY) -> Tensor:
    return torch.autograd.grad(value, [*policy.network.parameters()])[0]


@every
def test_zero_advantage_gives_zero_gradient(objective: Objective) -> None:
    if isinstance(objective, Total):
        objective = replace(objective, penalties=())
    path = rollouts(6)
    assert (gradient(loss(objective, views(objective, path), torch.zeros(6)).value) == 0).all()
    assert (gradient(loss(objective, views(objective, path), torch.ones(6)).value) != 0).any()


@every
def test_a_reading_is_deterministic_and_chance_is_all_in_the_views(objective: Objective) -> None:
    path = rollouts(6)
    first, second = views(objective, path), views(objective, path)
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])
    assert torch.equal(objective.read(POLICY, first).log_prob, objective.read(POLICY, second).log_prob)


@every
def test_the_loss_of_a_batch_is_the_mean_of_its_slices(objective: Objective) -> None:
    """Value and gradient, however long the paths in a slice are."""
    path, advantage = rollouts(6), torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -0.2])
    seen = views(objective, path)
    whole = loss(objective, seen, advantage)
    slices = [loss(objective, seen[at : at + 2], advantage[at : at + 2]) for at in (0, 2, 4)]
    torch.testing.assert_close(whole.value, torch.stack([part.value for part in slices]).mean())
    torch.testing.assert_close(gradient(whole.value), torch.stack([gradient(part.value) for part in slices]).mean(0))


@every
def test_views_of_a_row_do_not_depend_on_the_batch(objective: Objective) -> None:
    path = rollouts(6)
    together = views(objective, path)
    for row in range(6):
        alone = objective.views(path[row : row + 1], POLICY.process, Chance.seeded(1, [row], 1))
        count = alone.xt.shape[1]
        for name in ("xt", "t", "weight", "hazard"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row, :count]), name
        assert (together.weight[row, count:] == 0).all() and (together.hazard[row, count:] == 0).all()


@of_masks
def test_only_masked_free_sites_are_weighted(objective: Objective) -> None:
    path = rollouts(6)
    seen = views(objective, path)
    masked = seen.xt == 3
    assert not ((seen.weight != 0) & ~masked).any()
    assert not (masked & ~path.canvas.free.unsqueeze(1)).any()


@every
def test_one_evaluation_per_view(objective: Objective) -> None:
    policy = replace(POLICY, meter=type(POLICY.meter)())
    seen = views(objective, rollouts(6))
    objective.read(policy, seen)
    assert policy.meter.evaluations == policy.meter.with_gradient == seen.xt.shape[0] * seen.xt.shape[1]


@of_masks
def test_a_path_of_another_process_is_refused(objective: Objective) -> None:
    policy = ideal_uniform(SMALL, markov_chain(SMALL))
    path = roll(Ancestral(3), policy, Canvas.blank(2, 3), Chance.of(0, 2))
    with pytest.raises(ValueError, match=r"absorbing process.*Uniform"):
        objective.views(path, policy.process, Chance.of(0, 2))


@every
def test_metrics_are_finite_scalars_without_gradient(objective: Objective) -> None:
    path = rollouts(6)
    seen = views(objective, path)
    for name, value in loss(objective, seen, torch.zeros(6)).metrics.items():
        assert value.ndim == 0 and value.isfinite() and not value.requires_grad, name


def test_penalties_see_the_same_states_with_the_same_weights_wherever_on_the_path_the_objective_reads() -> None:
    path = rollouts(6)
    first, second = (views(SEPO(reading(2)), path) for reading in (READINGS["next_site"], READINGS["all_sites"]))
    assert torch.equal(first.xt, second.xt) and torch.equal(first.hazard, second.hazard)
    assert torch.equal(second.weight, second.hazard) and not torch.equal(first.weight, first.hazard)


@pytest.mark.parametrize("reading", READINGS)
def test_less_than_one_state_is_refused(reading: str) -> None:
    with pytest.raises(ValueError, match=r"states=0"):
        READINGS[reading](0)
