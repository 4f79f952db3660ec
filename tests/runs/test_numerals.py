"""Numbers as a report writes them, and ticks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepo.runs.numerals import numeral, short_numeral, tick_labels, ticks


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.953, "0.953"),
        (0.81, "0.810"),
        (0.098, "0.098"),
        (0.0123, "0.012"),
        (0.00456, "0.00456"),
        (1.5e-5, "1.5×10⁻⁵"),
        (12.04, "12.0"),
        (-3.14159, "−3.14"),
        (999.9, "1,000"),
        (12345.6, "12,346"),
        (307200, "307,200"),
        (2.5e12, "2.5×10¹²"),
        (0.0, "0"),
        (3.0, "3"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (None, "–"),
        (True, "yes"),
        ("text", "text"),
    ],
)
def test_a_number_is_written_to_three_digits(value: Any, written: str):
    assert numeral(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(0.5031, "0.503"), (9_999.0, "9,999"), (307_200.0, "307k"), (4.21e6, "4.20M"), (-2e9, "−2G")]
)
def test_the_end_of_a_curve_is_labelled_in_few_letters(value: float, written: str):
    assert short_numeral(value) == written


@given(low=st.floats(-1e6, 1e6, allow_nan=False), span=st.floats(1e-3, 1e6, allow_nan=False), number=st.integers(4, 6))
def test_ticks_are_round_inside_the_axis_and_about_as_many_as_wanted(low: float, span: float, number: int):
    high = low + span
    found = ticks(low, high, number)
    assert 2 <= len(found) <= 2 * number
    gap = found[1] - found[0]
    assert all(low - 1e-6 * gap <= tick <= high + 1e-6 * gap for tick in found)
    leading = round(gap / 10.0 ** math.floor(math.log10(gap) + 1e-6), 3)
    assert leading in (1, 2, 5)


@given(low=st.floats(-1e4, 1e4, allow_nan=False), span=st.floats(1e-2, 1e7, allow_nan=False))
def test_no_two_ticks_have_the_same_label(low: float, span: float):
    labels = tick_labels(ticks(low, low + span))
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.0, 0.5, 1.0], ["0.0", "0.5", "1.0"]),
        ([0.0, 50.0, 100.0], ["0", "50", "100"]),
        ([0.0, 1e5, 2e5], ["0", "100k", "200k"]),
        ([0.0, 5e5, 1e6], ["0", "0.5M", "1.0M"]),
        ([-2.0, 0.0, 2.0], ["−2", "0", "2"]),
        ([0.0, 2e-5], ["0", "2×10⁻⁵"]),
        ([0.95, 1.0, 1.05], ["0.95", "1.00", "1.05"]),
    ],
)
def test_labels_share_their_decimals_and_their_unit(values: list[float], labels: list[str]):
    assert tick_labels(values) == labels
