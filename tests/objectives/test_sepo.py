"""The loss of SEPO: its value, its metrics, and penalties beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sepo.diffusion.views import Reading, Views
from sepo.objectives import (
    SEPO,
    AllSites,
    Credit,
    EntropyBonus,
    FreshMasks,
    NextSite,
    PathKL,
    PPOClip,
    ScoreClip,
    Total,
)
from sepo.objectives.levels import path, step
from sepo.objectives.neighbours import SNIS


def views(weight: torch.Tensor) -> Views:
    batch, view, length = weight.shape
    return Views(
        xt=torch.zeros(batch, view, length, dtype=torch.long),
        t=torch.full((batch, view), 0.5),
        target=torch.zeros(batch, view, length, dtype=torch.long),
        weight=weight,
        hazard=weight,
        free=torch.ones(batch, length, dtype=torch.bool),
    )


def test_the_value_is_the_mean_over_sequences_of_weighted_sums() -> None:
    weight = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [3.0, 0.0]]])
    new = torch.tensor([[[-1.0, 0.0], [0.0, -2.0]], [[0.0, 0.0], [-3.0, 0.0]]])
    reading = Reading(new)
    loss = SEPO().loss(reading, reading, None, Credit.of(torch.tensor([1.0, -2.0])), views(weight))
    assert loss.value.item() == pytest.approx(((1 * 1 + 2 * 2) - 2 * (3 * 3)) / 2)


def test_a_step_has_one_ratio_for_all_that_it_reveals() -> None:
    """Two sites at 1.2 are a step at 1.44: within the clip apart, outside it together. Advantages are of states."""
    log_ratio = torch.tensor([[[1.2, 1.2], [1.2, 1.0]]]).log()
    weight, old = torch.tensor([[[4.0, 4.0], [1.0, 0.0]]]), torch.tensor([[[-1.0, -2.0], [-3.0, 0.0]]])
    credit = Credit(torch.tensor([[1.0, -2.0]]), torch.ones(1), torch.zeros(1))
    new, log_prob = Reading(old + log_ratio), old + log_ratio

    def value(**options: Any) -> float:
        return float(SEPO(NextSite(), **options).loss(new, Reading(old), None, credit, views(weight)).value)

    first, last = 4 * (log_prob[0, 0, 0] + log_prob[0, 0, 1]), 2 * 1.2 * log_prob[0, 1, 0]
    assert value(weight=ScoreClip(0.3)) == pytest.approx(float(-1.2 * first + last))
    assert value(weight=ScoreClip(0.3), level=step) == pytest.approx(float(-1.3 * first + last))
    assert value(weight=PPOClip(0.3), level=step) == pytest.approx(-4 * 1.3 + 2 * 1.2)


def test_levels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"level=.*choose the function token or step"):
        SEPO(level=path)
    with pytest.raises(ValueError, match=r"SNIS weighs neighbours of one site, but the ratio per step"):
        SEPO(neighbours=SNIS(2), level=step)
    for reading in (AllSites(), FreshMasks()):
        with pytest.raises(ValueError, match=rf"{type(reading).__name__} rates sites that no step has decided"):
            SEPO(reading, level=step)


def test_clip_metrics_count_the_terms_that_the_clip_changes() -> None:
    """Ratios 1.5, .5 with A > 0, then with A < 0: changed are the first and the last. Unweighted sites do not count."""
    ratio = torch.tensor([[[1.5, 0.5, 9.0]], [[1.5, 0.5, 9.0]]])
    weight = torch.tensor([1.0, 1.0, 0.0]).expand(2, 1, 3)
    for kind in (ScoreClip, PPOClip):
        loss = SEPO(NextSite(), kind(0.2)).loss(
            Reading(ratio.log()),
            Reading(torch.zeros(2, 1, 3)),
            None,
            Credit.of(torch.tensor([1.0, -1.0])),
            views(weight),
        )
        metrics = {name: value.item() for name, value in loss.metrics.items()}
        assert metrics == pytest.approx(
            {"clip_ratio/high_mean": 0.25, "clip_ratio/low_mean": 0.25, "clip_ratio/region_mean": 0.5, "ratio": 1.0}
        )


def test_penalties_are_added_with_their_weights() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    new, ahead = logits.log_softmax(-1), logits.flip(0).log_softmax(-1)
    seen = views(torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)))
    reading, reference = Reading(new[..., 0], new), Reading(ahead[..., 0], ahead)
    zero = torch.zeros(2)
    total = Total(SEPO(), ((0.3, PathKL()), (0.2, EntropyBonus()))).loss(
        reading, reading, reference, Credit.of(zero), seen
    )
    kl = (seen.hazard * (new.exp() * (new - ahead)).sum(-1)).sum((1, 2)).mean()
    entropy = -(seen.hazard * (new.exp() * new).sum(-1)).sum((1, 2)).mean()
    torch.testing.assert_close(total.value, 0.3 * kl - 0.2 * entropy)
    torch.testing.assert_close(total.metrics["kl_term"], kl)
    torch.testing.assert_close(total.metrics["entropy_term"], entropy)


def test_penalties_say_what_they_need() -> None:
    assert not SEPO().whole and not SEPO().uses_reference and SEPO().reads_rollout
    entropy = Total(SEPO(), ((0.1, EntropyBonus()),))
    assert entropy.whole and not entropy.uses_reference
    both = Total(SEPO(), ((0.1, EntropyBonus()), (0.1, PathKL())))
    assert both.whole and both.uses_reference and both.reads_rollout
    reading, seen = Reading(torch.zeros(1, 1, 1)), views(torch.ones(1, 1, 1))
    with pytest.raises(ValueError, match=r"PathKL.*whole=True"):
        PathKL().loss(reading, reading, reading, Credit.of(torch.zeros(1)), seen)
    with pytest.raises(ValueError, match=r"EntropyBonus.*whole=True"):
        EntropyBonus().loss(reading, reading, None, Credit.of(torch.zeros(1)), seen)
