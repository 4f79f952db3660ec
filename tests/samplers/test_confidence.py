"""Confidence decoding: exact where it looks at the state alone, biased where it looks at its draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.exact import total_variation
from sepo.evaluation.worlds import (
    World,
    ideal_uniform,
    markov_chain,
    random_reward,
    random_table,
    tabular,
)
from sepo.ops import Chance
from sepo.samplers import Confidence, roll
from sepo.samplers.confidence import RULES
from tests.samplers.enumerated import confidence_law
from tests.samplers.filled import drawn
from tests.worlds import DEEP, SMALL, Written, deviations

OF_STATE = [rule for rule in RULES if rule != "low_confidence"]


def every_path(sampler: Confidence, policy: Denoiser, world: World) -> MaskedPath:
    """Where the sites follow from the state there are as many paths as sequences, and 6,000 draws find them all."""
    path = drawn(sampler, policy, Canvas.blank(6000, world.length))
    each = torch.cat((path.x0, path.order), dim=1).unique(dim=0, return_inverse=True)[1]
    first = torch.stack([(each == number).nonzero()[0, 0] for number in range(int(each.max()) + 1)])
    found = path[first]
    assert torch.equal(world.index(found.x0).sort().values, torch.arange(len(world.sequences)))
    return found


@pytest.mark.parametrize("rule_temperature", [0.0, 0.2])
@pytest.mark.parametrize("rule", RULES)
def test_draws_follow_the_enumerated_law(rule: str, rule_temperature: float) -> None:
    """Of an even law, since low_confidence sharpens an uneven one until chi-square has cells that are hardly drawn."""
    policy = random_table(SMALL, seed=1, spread=0.5)
    law = confidence_law(policy, SMALL, rule, rule_temperature=rule_temperature)
    assert law.sum().item() == pytest.approx(1)
    path = drawn(Confidence(rule=rule, rule_temperature=rule_temperature), policy, Canvas.blank(8000, 3))
    assert abs(deviations(SMALL, path.x0, law)) < 4


@pytest.mark.parametrize("rule", RULES)
def test_several_sites_per_step_follow_the_enumerated_law(rule: str) -> None:
    policy = random_table(DEEP, seed=2, spread=0.5)
    path = drawn(Confidence(3, rule), policy, Canvas.blank(6000, 4))
    assert (path.revealed(torch.arange(3).expand(6000, -1)).sum(-1) == torch.tensor([2, 1, 1])).all()
    assert policy.meter.evaluations == 3 * 6000
    assert abs(deviations(DEEP, path.x0, confidence_law(policy, DEEP, rule, (2, 1, 1)))) < 4


@pytest.mark.parametrize("sampler", [Confidence(rule=rule) for rule in OF_STATE] + [Confidence(2)], ids=str)
def test_what_is_recorded_is_the_probability_of_the_path(sampler: Confidence) -> None:
    policy = random_table(SMALL, seed=3)
    assert sampler.exact_density
    paths = every_path(sampler, policy, SMALL)
    probability = paths.log_prob.double().sum(1).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-6)
    law = confidence_law(policy, SMALL, sampler.rule, () if sampler.steps is None else (2, 1))
    torch.testing.assert_close(probability, law[SMALL.index(paths.x0)], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rule", OF_STATE)
def test_the_gradient_along_its_paths_is_that_of_the_expected_reward(rule: str) -> None:
    """Although the sites depend on the weights: finite differences of the enumerated law, away from ties."""
    policy, reward = random_table(SMALL, seed=4), random_reward(SMALL)
    paths = every_path(Confidence(rule=rule), policy, SMALL)
    of_paths = path_log_prob(policy, paths).sum(1)
    (weights,) = policy.network.parameters()
    surrogate = (of_paths.exp().detach() * reward[SMALL.index(paths.x0)] * of_paths).sum()
    (gradient,) = torch.autograd.grad(surrogate, [weights])
    direction = torch.randn(weights.shape, generator=torch.Generator().manual_seed(0), dtype=weights.dtype)
    ends = []
    for step in (-1e-5, 1e-5):
        moved = policy.on(type(policy.network)(SMALL, weights.detach() + step * direction))  # type: ignore[call-arg]
        ends.append((confidence_law(moved, SMALL, rule) * reward).sum())
    assert (gradient * direction).sum().item() == pytest.approx(((ends[1] - ends[0]) / 2e-5).item(), rel=1e-3)


@pytest.mark.parametrize("world", [SMALL, DEEP], ids=str)
@pytest.mark.parametrize("rule", OF_STATE)
def test_an_exact_denoiser_filled_site_by_site_gives_the_data(rule: str, world: World) -> None:
    law = markov_chain(world, seed=1, sharpness=2.0)
    assert float(total_variation(confidence_law(tabular(world, law), world, rule), law)) < 1e-12


@pytest.mark.parametrize("world", [SMALL, DEEP], ids=str)
def test_low_confidence_is_biased_even_with_an_exact_denoiser(world: World) -> None:
    """Total variation .35 and .55 from the data, at temperature 1 and one site per step: likely draws are preferred."""
    law = markov_chain(world, seed=1)
    policy = tabular(world, law)
    bias = float(total_variation(confidence_law(policy, world, "low_confidence"), law))
    print(f"low_confidence, {world}: total variation {bias:.3f}")
    assert bias > 0.02
    path = drawn(Confidence(rule="low_confidence"), policy, Canvas.blank(8000, world.length))
    assert deviations(world, path.x0, law) > 20
    seen = path.log_prob.double().sum(1).exp()
    actual = confidence_law(policy, world, "low_confidence")[world.index(path.x0)]
    assert (seen - actual).abs().max() > 0.05  # what is recorded is not its density


def test_only_context_rules_at_temperature_one_have_an_exact_density() -> None:
    options: list[dict[str, Any]] = [
        {"rule": "low_confidence"},
        {"temperature": 0.7},
        {"temperature": 0.0},
        {"top_p": 0.9},
        {"rule_temperature": 0.1},
    ]
    assert not any(Confidence(**each).exact_density for each in options)
    assert all(Confidence(rule=rule, steps=4, block_length=8).exact_density for rule in OF_STATE)


def test_blocks_are_filled_from_left_to_right() -> None:
    policy = random_table(DEEP, seed=5)
    path = drawn(Confidence(block_length=2), policy, Canvas.blank(6000, 4))
    assert (path.order[:, :2].amax(1) < path.order[:, 2:].amin(1)).all()
    assert len(path.order.unique(dim=0)) > 1
    law = confidence_law(policy, DEEP, open_to=(2, 2, 4, 4))
    assert abs(deviations(DEEP, path.x0, law)) < 4 and deviations(DEEP, path.x0, confidence_law(policy, DEEP)) > 10


def test_steps_are_shared_out_among_blocks_as_llada_does() -> None:
    """(block, masks in it, how many are filled) of each step; each block has steps // blocks of them."""
    assert Confidence(4, block_length=5).schedule(10) == [(0, 5, 3), (0, 2, 2), (1, 5, 3), (1, 2, 2)]
    assert Confidence(block_length=4).schedule(6) == [*((0, left, 1) for left in (4, 3, 2, 1)), (1, 2, 1), (1, 1, 1)]
    assert Confidence(5, block_length=4).schedule(6) == [(0, 4, 2), (0, 2, 1), (0, 1, 1), (1, 2, 1), (1, 1, 1)]
    assert Confidence(4).schedule(10) == [(0, 10, 3), (0, 7, 3), (0, 4, 2), (0, 2, 2)]
    assert Confidence(20).schedule(2) == [(0, 2, 1), (0, 1, 1)]
    with pytest.raises(ValueError, match=r"steps=2, block_length=4: 10 free sites make 3 blocks.*as many steps"):
        Confidence(2, block_length=4).schedule(10)


@pytest.mark.parametrize("rule", RULES)
def test_filling_around_given_sites_follows_the_enumerated_law(rule: str) -> None:
    policy = random_table(DEEP, seed=6, spread=0.5)
    canvas = Canvas(torch.tensor([[0, 1, 0, 0]]), torch.tensor([[True, False, True, True]])).repeat(6000)
    path = drawn(Confidence(rule=rule), policy, canvas)
    assert (path.order[:, 1] == -1).all() and (path.log_prob[:, 1] == 0).all()
    assert abs(deviations(DEEP, path.x0, confidence_law(policy, DEEP, rule, start=(2, 1, 2, 2)))) < 4


class Neighbours(nn.Module):
    """Logits from the tokens on both sides; padding is not looked at."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)))

    @staticmethod
    def call(network: nn.Module, xt: Tensor, sigma: Tensor, attend: Tensor | None, sites: Tensor | None) -> Tensor:
        assert isinstance(network, Neighbours)
        seen = torch.ones_like(xt, dtype=torch.bool) if attend is None else attend
        left, right = (weights[xt] * seen.unsqueeze(-1) for weights in network.weights)
        logits = torch.zeros_like(left)
        logits[:, 1:] += left[:, :-1]
        logits[:, :-1] += right[:, 1:]
        return logits if sites is None else logits.gather(1, sites.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))


class OfSites(Written):
    """Numbers that belong to sites, whatever the width: those of the tokens and those of the choice."""

    @staticmethod
    def down(numbers: Tensor) -> OfSites:
        return OfSites((), len(numbers), "cpu", numbers.double())

    def uniform(self, *shape: int) -> Tensor:
        return self.numbers[:, 0] if len(shape) == 1 else self.numbers


@pytest.mark.parametrize("options", [{"rule": rule} for rule in RULES] + [{"block_length": 2}, {"steps": 2}], ids=str)
def test_padded_rows_are_filled_as_they_are_alone(options: dict[str, Any]) -> None:
    """Rows of 3, 5 and 6 sites, with given ones in the middle, side by side and each at its own width."""
    policy = Denoiser(Neighbours(5), World(4, 2).absorbing(), Neighbours.call)
    lengths, width = torch.tensor([3, 5, 6]), 6
    attend = torch.arange(width) < lengths.unsqueeze(1)
    free = attend.clone()
    free[1, 2] = free[2, 3] = False
    numbers = torch.rand(3, 2, width, generator=torch.Generator().manual_seed(1))
    canvas = Canvas(torch.full((3, width), 3), free, attend)
    together = roll(Confidence(**options), policy, canvas, OfSites.down(numbers))
    assert isinstance(together, MaskedPath)
    for row, length in enumerate(lengths.tolist()):
        canvas = Canvas(torch.full((1, length), 3), free[row : row + 1, :length])
        alone = roll(Confidence(**options), policy, canvas, OfSites.down(numbers[row : row + 1, :, :length]))
        assert isinstance(alone, MaskedPath)
        assert torch.equal(alone.x0[0], together.x0[row, :length])
        assert torch.equal(alone.order[0], together.order[row, :length])
        torch.testing.assert_close(alone.log_prob[0], together.log_prob[row, :length])
        torch.testing.assert_close(alone.times[0], together.times[row, : alone.steps])


def test_rows_take_steps_of_their_own() -> None:
    """By its own number of free sites each, not by the mean of the batch."""
    free = torch.tensor([[True, False, False, True], [True, True, True, True]])
    path = drawn(Confidence(3), random_table(DEEP), Canvas(torch.zeros(2, 4, dtype=torch.long), free))
    assert path.active().tolist() == [[True, True, False], [True, True, True]]
    torch.testing.assert_close(path.times[1], torch.tensor([1.0, 0.5, 0.25]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps=0.*at least 1 step"),
        ({"rule": "random"}, "rule='random': choose one of entropy, margin, max_prob, low_confidence"),
        ({"block_length": 0}, "block_length=0.*or None"),
        ({"temperature": -1.0}, "temperature=-1.0: must be 0 or more"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"confidence": "dream"}, "confidence='dream': choose one of posterior, tempered"),
        ({"top_p": 0.0}, "top_p=0.0: must be above 0"),
        ({"rule_temperature": -0.5}, "rule_temperature=-0.5: must be 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Confidence(**options)


def test_it_refuses_a_process_without_masks() -> None:
    policy = ideal_uniform(SMALL, markov_chain(SMALL))
    with pytest.raises(ValueError, match=r"Confidence fills masks.*Uniform"):
        roll(Confidence(), policy, Canvas.blank(1, 3), Chance.of(0, 1))
