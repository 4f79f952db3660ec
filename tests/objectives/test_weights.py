"""Each clip against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sepo.objectives import PPOClip, ScoreClip, Unclipped
from sepo.objectives.weights import Weight

RATIOS = (0.5, 0.9, 1.0, 1.1, 2.0, 6.0)


def slope(weight: Weight, ratio: float, advantage: float) -> float:
    """d(term) / d(log p) at this ratio: minus the weight that the term gives to grad log p."""
    log_prob = torch.tensor(-1.0, requires_grad=True)
    old = torch.tensor(-1.0 - math.log(ratio))
    term = weight(log_prob, log_prob - old, torch.tensor(advantage))
    (found,) = torch.autograd.grad(term, log_prob)
    return float(found)


def weights(weight: Weight, advantage: float) -> list[float]:
    return [-slope(weight, ratio, advantage) for ratio in RATIOS]


def test_sepo_caps_good_terms_and_floors_bad_ones_but_never_stops() -> None:
    assert weights(ScoreClip(0.2), 1.0) == pytest.approx([0.5, 0.9, 1.0, 1.1, 1.2, 1.2], rel=1e-5)
    assert weights(ScoreClip(0.2), -1.0) == pytest.approx([-0.8, -0.9, -1.0, -1.1, -2.0, -6.0], rel=1e-5)


def test_ppo_stops_where_its_clip_is_active() -> None:
    assert weights(PPOClip(0.2), 1.0) == pytest.approx([0.5, 0.9, 1.0, 1.1, 0.0, 0.0], rel=1e-5)
    assert weights(PPOClip(0.2), -1.0) == pytest.approx([0.0, -0.9, -1.0, -1.1, -2.0, -6.0], rel=1e-5)


def test_dropping_outside_gives_sepo_ppos_range() -> None:
    for advantage in (1.0, -1.0):
        assert weights(ScoreClip(0.2, drop_outside=True), advantage) == pytest.approx(
            weights(PPOClip(0.2), advantage), rel=1e-5
        )


def test_delta_caps_the_ratio_of_bad_terms() -> None:
    assert weights(ScoreClip(0.2, delta=4.0), -1.0) == pytest.approx([-0.8, -0.9, -1.0, -1.1, -2.0, -4.0], rel=1e-5)
    assert weights(PPOClip(0.2, delta=4.0), -1.0) == pytest.approx([0.0, -0.9, -1.0, -1.1, -2.0, 0.0], rel=1e-5)


def test_the_upper_bound_may_differ_from_the_lower() -> None:
    assert ScoreClip(0.2, epsilon_high=0.5).bounds == (0.8, 1.5)
    assert weights(ScoreClip(0.2, 0.5), 1.0) == pytest.approx([0.5, 0.9, 1.0, 1.1, 1.5, 1.5], rel=1e-5)
    assert weights(PPOClip(0.2, 1.5), 1.0) == pytest.approx([0.5, 0.9, 1.0, 1.1, 2.0, 0.0], rel=1e-5)


def test_unclipped_is_the_plain_ratio() -> None:
    assert weights(Unclipped(), 2.0) == pytest.approx([2 * ratio for ratio in RATIOS], rel=1e-5)
    assert Unclipped().bounds == (0.0, math.inf)


@pytest.mark.parametrize("weight", [ScoreClip(0.0), PPOClip(0.0), Unclipped(), ScoreClip(0.2, drop_outside=True)])
@pytest.mark.parametrize("advantage", [1.5, -0.5])
def test_at_the_old_policy_every_weight_is_the_advantage(weight: Weight, advantage: float) -> None:
    assert -slope(weight, 1.0, advantage) == pytest.approx(advantage)


def test_values_of_ppo_are_minus_the_clipped_surrogate() -> None:
    def value(ratio: float, advantage: float) -> Tensor:
        return PPOClip(0.2)(torch.tensor(0.0), torch.tensor(ratio).log(), torch.tensor(advantage))

    assert float(value(2.0, 1.0)) == pytest.approx(-1.2)
    assert float(value(2.0, -1.0)) == pytest.approx(2.0)
    assert float(value(0.5, -1.0)) == pytest.approx(0.8)


@pytest.mark.parametrize("kind", [ScoreClip, PPOClip])
def test_clip_ranges_that_make_no_sense_are_named(kind: type) -> None:
    with pytest.raises(ValueError, match=r"epsilon=1.5"):
        kind(1.5)
    with pytest.raises(ValueError, match=r"epsilon_high=-0.1"):
        kind(0.2, -0.1)
    with pytest.raises(ValueError, match=r"delta=1.1.*1 \+ epsilon_high"):
        kind(0.2, delta=1.1)
