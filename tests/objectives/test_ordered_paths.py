"""Closed forms along paths whose states say which sites come next: every path of a small world, nothing drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import read
from sepo.evaluation.worlds import random_table
from sepo.objectives import EntropyBonus, PathKL
from sepo.objectives.credit import Credit
from sepo.objectives.readings import AllSites, Merged, NextSite
from sepo.ops import Chance
from sepo.samplers import Confidence, FirstHitting, LeftToRight, OrderedSampler, Sampler, roll
from tests.worlds import SMALL

ORDERED = [LeftToRight(), LeftToRight(2), Confidence(), Confidence(2, "margin"), Confidence(block_length=2)]
POLICY, REFERENCE = random_table(SMALL, seed=1, spread=0.4), random_table(SMALL, seed=2, spread=0.4)
READINGS = [NextSite(None), AllSites(None), Merged(None)]


def paths_of(sampler: Sampler) -> MaskedPath:
    """One for each sequence."""
    path = roll(sampler, POLICY, Canvas.blank(4000, 3), Chance.of(0, 4000))
    assert isinstance(path, MaskedPath)
    place = SMALL.index(path.x0)
    return path[torch.stack([(place == index).nonzero()[0, 0] for index in range(len(SMALL.sequences))])]


def log_probs(policy: Denoiser, paths: MaskedPath) -> torch.Tensor:
    return path_log_prob(policy, paths).detach().double().sum(1)


def expected(term: PathKL | EntropyBonus, paths: MaskedPath, reading) -> float:
    """The mean of the term over the paths of the policy."""
    views = reading(paths, POLICY.process, Chance.of(0, len(paths)))
    new, reference = (read(each, views, whole=True) for each in (POLICY, REFERENCE))
    nothing = Credit.of(torch.zeros(len(paths)))
    each = [
        term.loss(new[row], new[row], reference[row], nothing[row], views[row]).value.double()
        for row in (slice(index, index + 1) for index in range(len(paths)))
    ]
    return float((log_probs(POLICY, paths).exp() * torch.stack(each).detach()).sum())


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: type(reading).__name__)
@pytest.mark.parametrize("sampler", ORDERED, ids=str)
def test_path_kl_and_entropy_are_exact_where_the_state_says_what_comes_next(sampler: Sampler, reading) -> None:
    paths = paths_of(sampler)
    own, other = log_probs(POLICY, paths), log_probs(REFERENCE, paths)
    assert own.exp().sum().item() == pytest.approx(1, abs=1e-5)
    divergence, entropy = float((own.exp() * (own - other)).sum()), float(-(own.exp() * own).sum())
    assert expected(PathKL(), paths, reading) == pytest.approx(divergence, rel=1e-5)
    assert -expected(EntropyBonus(), paths, reading) == pytest.approx(entropy, rel=1e-5)
    as_if_any_site_came = expected(PathKL(), replace(paths, ordered=None), reading)
    assert as_if_any_site_came != pytest.approx(divergence, rel=0.01)


def test_all_sites_of_an_ordered_path_are_those_that_appeared() -> None:
    paths = paths_of(LeftToRight())
    every, those = (each(paths, POLICY.process, Chance.of(0, 27)) for each in (AllSites(None), NextSite(None)))
    assert torch.equal(every.weight, those.weight)


def test_samplers_say_whether_their_paths_are_ordered() -> None:
    assert all(isinstance(each, OrderedSampler) and each.ordered for each in ORDERED)
    assert not isinstance(FirstHitting(), OrderedSampler)
    path = roll(FirstHitting(), POLICY, Canvas.blank(2, 3), Chance.of(0, 2))
    assert isinstance(path, MaskedPath) and path.ordered is None
