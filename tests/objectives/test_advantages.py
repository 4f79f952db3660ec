"""Advantages: baselines, scales, sequences without a return."""

from __future__ import annotations

import pytest
import torch

from sepo.objectives import Advantage
from sepo.objectives.advantages import BASELINES, SCALES, batch, group, leave_one_out, mean, none, unit

NAN = float("nan")


def close(actual: torch.Tensor, expected: list[float], **tolerance: float) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), **{"rtol": 1e-5, "atol": 1e-6} | tolerance)


def test_mean_and_group_deviation_are_grpo() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0, 10.0, 10.0, 13.0])
    expected = torch.cat([(part - part.mean()) / (part.std() + 1e-4) for part in returns.split(3)])
    close(Advantage()(returns, 3), expected.tolist())


def test_leave_one_out_subtracts_the_mean_of_the_others() -> None:
    close(Advantage(leave_one_out, unit)(torch.tensor([1.0, 2.0, 6.0]), 3), [1 - 4, 2 - 3.5, 6 - 1.5])


def test_leave_one_out_is_the_mean_baseline_times_g_over_g_minus_1() -> None:
    returns = torch.randn(12, generator=torch.Generator().manual_seed(0))
    centred, others = Advantage(mean, unit)(returns, 4), Advantage(leave_one_out, unit)(returns, 4)
    torch.testing.assert_close(others, centred * 4 / 3)


def test_without_baseline_and_scale_returns_pass_unchanged() -> None:
    returns = torch.tensor([1.0, -2.0, 0.25])
    assert torch.equal(Advantage(none, unit)(returns, 3), returns)


def test_the_batch_scale_is_one_deviation_for_all_groups() -> None:
    returns = torch.tensor([1.0, 2.0, 30.0, 10.0])
    expected = torch.tensor([-0.5, 0.5, 10.0, -10.0]) / (returns.std() + 1e-4)
    close(Advantage(mean, batch)(returns, 2), expected.tolist())


def test_a_group_of_equal_returns_has_no_advantage() -> None:
    assert Advantage(mean, group)(torch.full((4,), 0.5), 4).tolist() == [0, 0, 0, 0]
    assert Advantage(leave_one_out, group)(torch.full((4,), 0.5), 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("baseline", sorted(BASELINES))
@pytest.mark.parametrize("scale", sorted(SCALES))
def test_a_sequence_without_a_return_takes_no_part(baseline: str, scale: str) -> None:
    """The others have the advantages they would have without it."""
    advantage = Advantage(BASELINES[baseline], SCALES[scale])
    with_gap = advantage(torch.tensor([1.0, NAN, 4.0, 2.0]), 4)
    without = advantage(torch.tensor([1.0, 4.0, 2.0]), 3)
    assert with_gap[1] == 0
    torch.testing.assert_close(with_gap[[0, 2, 3]], without)


@pytest.mark.parametrize("baseline", sorted(BASELINES))
@pytest.mark.parametrize("scale", sorted(SCALES))
def test_a_group_without_any_return_or_with_one_is_finite(baseline: str, scale: str) -> None:
    advantage = Advantage(BASELINES[baseline], SCALES[scale])(torch.tensor([NAN, NAN, 3.0, NAN]), 2)
    assert advantage.isfinite().all()
    assert advantage[[0, 1, 3]].tolist() == [0, 0, 0]
    if baseline != "none":
        assert advantage[2] == 0


def test_an_infinite_return_is_named() -> None:
    with pytest.raises(ValueError, match=r"Return 1 is -inf.*NaN"):
        Advantage()(torch.tensor([0.0, -torch.inf]), 2)


def test_a_batch_that_is_not_whole_groups_is_named() -> None:
    with pytest.raises(ValueError, match=r"5 returns.*groups of 2"):
        Advantage()(torch.zeros(5), 2)
