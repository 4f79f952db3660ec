"""Charts: curves as inline SVG that takes its colours from the page, and so reads on light and on dark paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from sepo.runs.metrics import curve
from sepo.runs.numerals import numeral, short_numeral, tick_labels, ticks
from sepo.runs.sections import Chart, Metric, Series

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 52, 12, 40
STYLES = 6  # how many line styles the page's style sheet knows
SMOOTH_FROM = 60  # curves with more points than this are drawn twice: every point thin, their running mean thick
MOST_POINTS = 600


@dataclass(frozen=True)
class Line:
    """A curve ready to be drawn: its finite points in the order of x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    dropped: int = 0

    @property
    def smoothed(self) -> bool:
        """Whether the curve is long and noisy; one that only rises or only falls (a count, a schedule) is not."""
        if len(self.x) <= SMOOTH_FROM or self.labels:
            return False
        steps = [after - before for before, after in zip(self.y[:-1], self.y[1:], strict=True)]
        return min(steps) < 0 < max(steps)

    @property
    def mean(self) -> Sequence[float]:
        """The running mean of a noisy curve, and any other as it is."""
        return running_mean(self.y, max(5, len(self.y) // 20)) if self.smoothed else self.y


def lines_of(chart: Chart, metrics: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The curves of a chart, those of metrics.jsonl included; a curve without a finite point is left out."""
    lines = []
    for series in chart.series:
        if isinstance(series, Metric):
            x, y = curve(metrics, series.key)
            lines.append(_line(Series(series.name or series.key, x, y)))
        else:
            lines.append(_line(series))
    return [line for line in lines if line.x]


def _line(series: Series) -> Line:
    labels = series.labels or [""] * len(series.x)
    points = [(float(x), float(y), label) for x, y, label in zip(series.x, series.y, labels, strict=True)]
    finite = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    if not series.labels:
        finite.sort(key=lambda point: point[0])
    x, y, names = zip(*finite, strict=True) if finite else ((), (), ())
    return Line(series.name, x, y, names if series.labels else (), len(points) - len(finite))


def chart_svg(chart: Chart, lines: Sequence[Line]) -> str:
    """The axes, guides and curves of one chart.

    A thin line is every value, the thick one over it the running mean; the last value stands at the end of each curve.
    """
    guides = [float(guide.y) for guide in chart.guides]
    room = 0.06 if any(line.labels for line in lines) else 0.0
    low_x, high_x = _bounds([x for line in lines for x in line.x], room)
    low_y, high_y = _bounds([*(y for line in lines for y in line.y), *guides], room=0.06)

    def across(x: float) -> float:
        return LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low_y) / (high_y - low_y) * (HEIGHT - BOTTOM - TOP)

    parts = _axes(chart, (low_x, high_x), (low_y, high_y), across, down)
    for guide in chart.guides:
        y = down(float(guide.y))
        parts.append(f'<path class="guide" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="guide" x="{LEFT + 4}" y="{y - 4:.1f}">{escape(guide.label)}</text>')
    for number, line in reversed(list(enumerate(lines))):
        parts.extend(_drawn(line, f"s{number % STYLES}", across, down))
    parts.extend(_last_values(lines, across, down))
    told = "; ".join(f"{line.name} from {numeral(line.y[0])} to {numeral(line.y[-1])}" for line in lines)
    label = escape(f"{chart.title}: {told}")
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


Place = Callable[[float], float]


def _axes(
    chart: Chart, x_range: tuple[float, float], y_range: tuple[float, float], across: Place, down: Place
) -> list[str]:
    parts = []
    y_ticks, x_ticks = ticks(*y_range), ticks(*x_range, number=5)
    for value, label in zip(y_ticks, tick_labels(y_ticks), strict=True):
        parts.append(f'<path class="grid" d="M{LEFT} {down(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{down(value) + 4:.1f}" text-anchor="end">{label}</text>')
    base = HEIGHT - BOTTOM
    for value, label in zip(x_ticks, tick_labels(x_ticks), strict=True):
        parts.append(f'<path class="notch" d="M{across(value):.1f} {base}v4"/>')
        parts.append(f'<text class="tick" x="{across(value):.1f}" y="{base + 17}" text-anchor="middle">{label}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x_label)}</text>'
    )
    return parts


def _drawn(line: Line, style: str, across: Place, down: Place) -> list[str]:
    parts = [_path(f"line {style} every", line.x, line.y, across, down)] if line.smoothed else []
    parts.append(_path(f"line {style}", line.x, line.mean, across, down))
    if line.labels or len(line.x) == 1:
        for at_x, at_y in zip(line.x, line.y, strict=True):
            parts.append(f'<circle class="{style}" cx="{across(at_x):.1f}" cy="{down(at_y):.1f}" r="3.5"/>')
    if line.labels:
        parts.extend(_point_labels(line, across, down))
    return parts


def _point_labels(line: Line, across: Place, down: Place) -> list[str]:
    """The name of each point, on the side that the curve leaves free."""
    parts = []
    last = len(line.x) - 1
    for position, label in enumerate(line.labels):
        before, after = (position - 1, position) if position == last else (position, position + 1)
        rising = last > 0 and line.y[after] > line.y[before]
        ends = position == last > 0
        anchor, shift = ("end", -8) if ends else ("start", 8)
        drop = -7 if rising == ends else 15
        place = f'x="{across(line.x[position]) + shift:.1f}" y="{down(line.y[position]) + drop:.1f}"'
        parts.append(f'<text class="point" {place} text-anchor="{anchor}">{escape(label)}</text>')
    return parts


def _path(kind: str, x: Sequence[float], y: Sequence[float], across: Place, down: Place) -> str:
    x, y = _thinned(x, y)
    points = " ".join(f"{across(at_x):.1f} {down(at_y):.1f}" for at_x, at_y in zip(x, y, strict=True))
    return f'<path class="{kind}" d="M{points}"/>'


def _last_values(lines: Sequence[Line], across: Place, down: Place) -> list[str]:
    """The last value beside the end of each curve, pushed apart where two would touch."""
    ends = []
    for number, line in enumerate(lines):
        if not line.labels and len(line.x) > 1:
            last = line.mean[-1]
            ends.append((down(last), number, last, across(line.x[-1])))
    parts, lowest = [], -math.inf
    for y, number, last, x in sorted(ends):
        lowest = max(y, lowest + 13)
        style = f"s{number % STYLES}"
        parts.append(f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="2.8"/>')
        parts.append(
            f'<text class="last {style}" x="{WIDTH - RIGHT + 7}" y="{lowest + 4:.1f}">{short_numeral(last)}</text>'
        )
    return parts


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value with its neighbours, `window` of them in all; fewer at the two ends."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = []
    for position in range(len(values)):
        start, end = max(0, position - window // 2), min(len(values), position + window // 2 + 1)
        means.append((sums[end] - sums[start]) / (end - start))
    return means


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """At most about MOST_POINTS points: of every stretch its lowest and its highest, so that no peak is lost."""
    if len(x) <= MOST_POINTS:
        return x, y
    stretch = math.ceil(2 * len(x) / MOST_POINTS)
    kept: list[int] = []
    for start in range(0, len(x), stretch):
        span = range(start, min(start + stretch, len(x)))
        kept.extend(sorted({min(span, key=y.__getitem__), max(span, key=y.__getitem__)}))
    return [x[position] for position in kept], [y[position] for position in kept]


def _bounds(values: Sequence[float], room: float) -> tuple[float, float]:
    """The ends of an axis: the values with a little room, and zero where the lowest value is near it."""
    low, high = min(values), max(values)
    if low == high:
        around = abs(low) * 0.1 or 1.0
        return low - around, high + around
    floor = 0.0 if 0 <= low < 0.25 * high else low - room * (high - low)
    return floor, high + room * (high - low)
