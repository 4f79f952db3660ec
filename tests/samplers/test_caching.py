"""Confidence decoding with a cache: exact where what is kept cannot change, accounted for, and near elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.worlds import World
from sepo.models import as_denoiser
from sepo.ops import Chance
from sepo.samplers import Confidence, require_density, roll
from sepo.samplers.caching import KEEP
from sepo.samplers.confidence import RULES
from sepo.samplers.guided import ClassifierFree
from tests.models.attending import NETWORKS, llama, looking_back, policy_of
from tests.models.toys import LENGTH, MASK, denoiser
from tests.samplers.enumerated import confidence_law
from tests.worlds import Written, deviations

PROMPT, BATCH = 3, 6
each_cache = pytest.mark.parametrize("cache", KEEP)
each_network = pytest.mark.parametrize("name", NETWORKS)


def canvas(given: tuple[int, ...] = (), batch: int = BATCH) -> Canvas:
    """A prompt, and some sites given in the middle."""
    tokens = torch.randint(MASK, (batch, LENGTH), generator=torch.Generator().manual_seed(2))
    free = (torch.arange(LENGTH) >= PROMPT).expand(batch, -1).clone()
    free[:, list(given)] = False
    return Canvas(tokens, free)


def drawn(policy: Denoiser, on: Canvas, **options: Any) -> MaskedPath:
    path = roll(Confidence(**options), policy, on, Chance.of(0, len(on)))
    assert isinstance(path, MaskedPath)
    return path


def assert_same(path: MaskedPath, other: MaskedPath) -> None:
    assert torch.equal(path.x0, other.x0) and torch.equal(path.order, other.order)
    torch.testing.assert_close(path.log_prob, other.log_prob, atol=1e-4, rtol=1e-4)


@each_cache
@pytest.mark.parametrize("rule", RULES)
def test_a_network_that_looks_back_over_blocks_is_sampled_exactly(rule: str, cache: str) -> None:
    """Nothing that is kept depends on the block that is filled; the blocks behind it are not looked at."""
    policy = looking_back(PROMPT, 3)
    options: dict[str, Any] = {"rule": rule, "block_length": 3}
    assert_same(drawn(policy, canvas(), cache=cache, **options), drawn(policy, canvas(), **options))


@each_cache
def test_a_network_that_looks_ahead_is_not(cache: str) -> None:
    policy = policy_of("llama", 3)
    exact, cached = drawn(policy, canvas(), block_length=3), drawn(policy, canvas(), block_length=3, cache=cache)
    assert float((exact.log_prob - cached.log_prob).abs().max()) > 1e-3


@each_cache
@each_network
@pytest.mark.parametrize("options", [{"block_length": 4}, {"steps": 4, "block_length": 5}, {}], ids=str)
def test_a_network_of_one_layer_is_sampled_exactly(name: str, options: dict[str, Any], cache: str) -> None:
    policy = policy_of(name, 1)
    on = canvas(given=(5, 8))
    assert_same(drawn(policy, on, cache=cache, **options), drawn(policy, on, **options))


@each_cache
@each_network
@pytest.mark.parametrize("options", [{"refresh": 1}, {"block_length": 1}, {"steps": 3, "block_length": 3}], ids=str)
def test_all_computed_anew_at_every_step_is_no_cache_at_all(name: str, options: dict[str, Any], cache: str) -> None:
    """By refreshing, and where a step fills a whole block."""
    policy = policy_of(name, 3)
    plain = {key: value for key, value in options.items() if key != "refresh"}
    assert_same(drawn(policy, canvas(), cache=cache, **options), drawn(policy, canvas(), **plain))


@each_cache
def test_draws_follow_the_enumerated_law(cache: str) -> None:
    """Of the network without a cache: with one layer there is no difference."""
    world = World(letters=2, length=4)
    policy = as_denoiser(llama(1, size=3), world.absorbing(), length=4)
    path = drawn(policy, Canvas.blank(6000, 4), block_length=2, cache=cache)
    law = confidence_law(policy, world, open_to=(2, 2, 4, 4))
    assert abs(deviations(world, path.x0, law)) < 4


@pytest.mark.parametrize(("cache", "sites"), [("prefix", (12, 9, 9, 12, 6, 6, 12, 3, 3)), ("block", (12, 3, 3) * 3)])
def test_an_evaluation_counts_as_ever_and_its_sites_as_computed(cache: str, sites: tuple[int, ...]) -> None:
    policy = replace(policy_of("llama", 1), meter=Meter())
    drawn(policy, canvas(), block_length=3, cache=cache)
    assert policy.meter == Meter(evaluations=9 * BATCH, sites=sum(sites) * BATCH)


def test_refreshing_computes_all_sites_at_every_so_many_evaluations() -> None:
    policy = replace(policy_of("llama", 1), meter=Meter())
    drawn(policy, canvas(), cache="block", refresh=4)
    assert policy.meter == Meter(evaluations=9 * BATCH, sites=(3 * 12 + 6 * 9) * BATCH)


class OfSites(Written):
    """Numbers that belong to sites, whatever the width: those of the tokens and those of the choice."""

    def uniform(self, *shape: int) -> Tensor:
        return self.numbers[:, 0] if len(shape) == 1 else self.numbers


@each_cache
@pytest.mark.parametrize("refresh", [None, 2])
def test_rows_in_different_blocks_are_filled_as_they_are_alone(cache: str, refresh: int | None) -> None:
    """Prompts of 1, 4 and 2 sites and 11, 5 and 8 free ones: rows begin their blocks at different steps."""
    policy = policy_of("llama", 3)
    lengths, prompts = torch.tensor([12, 9, 10]), torch.tensor([1, 4, 2])
    place = torch.arange(LENGTH)
    attend = place < lengths.unsqueeze(1)
    free = attend & (place >= prompts.unsqueeze(1))
    tokens = canvas(batch=3).tokens
    sampler = Confidence(steps=6, block_length=5, cache=cache, refresh=refresh)
    numbers = torch.rand(3, 2, LENGTH, generator=torch.Generator().manual_seed(1)).double()
    chance = OfSites((), 3, "cpu", numbers)
    together = roll(sampler, policy, Canvas(tokens, free, attend), chance)
    assert isinstance(together, MaskedPath)
    for row, length in enumerate(lengths.tolist()):
        one = Canvas(tokens[row : row + 1, :length], free[row : row + 1, :length])
        alone = roll(sampler, policy, one, OfSites((), 1, "cpu", numbers[row : row + 1, :, :length]))
        assert isinstance(alone, MaskedPath)
        assert torch.equal(alone.x0[0], together.x0[row, :length])
        assert torch.equal(alone.order[0], together.order[row, :length])
        torch.testing.assert_close(alone.log_prob[0], together.log_prob[row, :length], atol=1e-4, rtol=1e-4)


@each_cache
@each_network
def test_what_is_recorded_is_near_what_the_policy_says_without_a_cache(name: str, cache: str) -> None:
    policy = policy_of(name, 2)
    path = drawn(policy, canvas(batch=40), block_length=3, cache=cache)
    with torch.no_grad():
        difference = (path.log_prob - path_log_prob(policy, path)).abs()[path.canvas.free]
    assert float(difference.max()) > 1e-5 and float(difference.mean()) < 0.05


@each_cache
def test_a_trainer_refuses_it(cache: str) -> None:
    sampler = Confidence(cache=cache)
    assert not sampler.exact_density
    with pytest.raises(ValueError, match=r"not the density of its path.*cache=None"):
        require_density(sampler)


@each_cache
def test_guidance_and_networks_without_keys_are_refused(cache: str) -> None:
    sampler = Confidence(cache=cache)
    for given, policy in ((sampler, denoiser("masked_lm")), (ClassifierFree(sampler, 1.0), policy_of("llama", 1))):
        with pytest.raises(ValueError, match="cannot keep keys and values"):
            roll(given, policy, canvas(), Chance.of(0, BATCH))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache": "suffix"}, "cache='suffix': choose one of prefix, block, or None"),
        ({"cache": "block", "refresh": 0}, "refresh=0, cache=block.*1 evaluation or more"),
        ({"refresh": 4}, "refresh=4, cache=None"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Confidence(**options)
