"""Numerals: how a report writes numbers, and where an axis puts its ticks."""

from __future__ import annotations

import math
from typing import SupportsFloat

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def numeral(value: SupportsFloat | str | None) -> str:
    """A number to three digits: 0.953, 12.0, 1,242, 1.5×10⁻⁵; whole numbers in full; text as it is, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "∞" if number > 0 else "−∞"
    if number == 0:
        return "0"
    size = abs(number)
    if size < 1e-3 or size >= 1e9:
        digits, power = f"{number:.2e}".split("e")
        text = f"{digits.rstrip('0').rstrip('.')}×10{str(int(power)).translate(SUPERSCRIPTS)}"
    elif number == int(number) or size >= 1000:
        text = f"{number:,.0f}"
    else:
        text = f"{number:,.{3 if 0.01 <= size < 1 else max(0, 2 - math.floor(math.log10(size)))}f}"
    return text.replace("-", "−")


def short_numeral(value: float) -> str:
    """A number in few letters, for the end of a curve: 0.953, 12.0, 307k, 4.2M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * unit or (abs(value) >= unit and letter != "k"):
            return f"{numeral(round(value / unit, 1))}{letter}"
    return numeral(value)


def ticks(low: float, high: float, number: int = 4) -> list[float]:
    """About `number` round values (1, 2 or 5 times a power of ten apart) within [low, high]."""
    step = _round_step((high - low) / number)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [position * step for position in range(first, last + 1)]


def tick_labels(values: list[float]) -> list[str]:
    """The ticks, all with as many decimals; thousands and millions as k and M, the very small as powers of ten."""
    gap = values[1] - values[0] if len(values) > 1 else abs(values[0]) or 1.0
    largest = max(abs(value) for value in values)
    if gap < 1e-4:
        return [numeral(value) for value in values]
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= 10 * unit or (largest >= unit and letter != "k"):
            gap, values, suffix = gap / unit, [value / unit for value in values], letter
            break
    else:
        suffix = ""
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9))
    written = [f"{value:.{decimals}f}".replace("-", "−") for value in values]
    return ["0" if suffix and value == 0 else text + suffix for text, value in zip(written, values, strict=True)]


def _round_step(wanted: float) -> float:
    power = 10.0 ** math.floor(math.log10(wanted))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(1 / step - 1 / wanted))
