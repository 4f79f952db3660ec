"""Schedules: inverses, rates, ends; for every schedule of the table."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sepo.diffusion.schedule import SCHEDULES, Cosine, Geometric, LogLinear, Schedule

EVERY = [kind() for kind in SCHEDULES.values()]
schedules = st.sampled_from(EVERY)
times = st.floats(0.001, 0.999)


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.double)


@given(schedules, times)
def test_time_inverts_alpha(schedule: Schedule, t: float) -> None:
    assert schedule.time(schedule.alpha(double(t))).item() == pytest.approx(t, abs=1e-6)


@given(schedules, times, st.floats(1e-6, 1e-2))
def test_alpha_falls(schedule: Schedule, t: float, step: float) -> None:
    assert schedule.alpha(double(t)) > schedule.alpha(double(t + step))


@given(schedules, times)
def test_sigma_is_minus_log_alpha_and_rate_is_its_slope(schedule: Schedule, t: float) -> None:
    at = double(t).requires_grad_()
    assert schedule.sigma(at).item() == pytest.approx(-math.log(schedule.alpha(at).item()), rel=1e-9)
    (slope,) = torch.autograd.grad(schedule.sigma(at), at)
    assert schedule.rate(at).item() == pytest.approx(slope.item(), rel=1e-9)


@pytest.mark.parametrize("schedule", EVERY, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_are_finite_and_inside_the_unit_interval(schedule: Schedule, dtype: torch.dtype) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=dtype)
    alpha = schedule.alpha(ends)
    assert alpha[0] >= 0.9999 and 0 < alpha[1] <= 1.001e-3
    assert torch.allclose(schedule.time(alpha), ends, atol=2e-2 if dtype == torch.float32 else 1e-6)
    assert schedule.rate(ends).isfinite().all() and (schedule.rate(ends) >= 0).all()


def test_small_times_keep_their_digits_in_float32() -> None:
    """1 - alpha loses them; sigma does not."""
    t = torch.tensor(1e-6)
    assert LogLinear().sigma(t).item() == pytest.approx(0.999e-6, rel=1e-6)


def test_loglinear_noise_is_proportional_to_time() -> None:
    schedule, t = LogLinear(), torch.linspace(0.01, 1, 9, dtype=torch.double)
    assert torch.allclose(1 - schedule.alpha(t), 0.999 * t)
    assert torch.allclose(schedule.rate(t) / schedule.sigma(t).expm1(), 1 / t)


@pytest.mark.parametrize("make", [lambda: LogLinear(0.0), lambda: LogLinear(1.0), lambda: Cosine(-0.1)])
def test_an_eps_outside_the_unit_interval_is_named(make: object) -> None:
    with pytest.raises(ValueError, match=r"eps=.*between 0 and 1"):
        make()  # type: ignore[operator]


def test_geometric_bounds_in_the_wrong_order_are_named() -> None:
    with pytest.raises(ValueError, match=r"sigma_min=20.0, sigma_max=0.1.*published"):
        Geometric(20.0, 0.1)
