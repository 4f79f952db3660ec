"""Charts: curves where they belong, noise smoothed, nothing not finite drawn."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sepo.runs import Chart, Guide, Metric, Series
from sepo.runs.chart import BOTTOM, HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, chart_svg, lines_of, running_mean


def drawn(chart: Chart, metrics: list[dict] | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(chart_svg(chart, lines_of(chart, metrics or [])))


def points(svg: ElementTree.Element, kind: str) -> np.ndarray:
    [path] = [path for path in svg.iter("path") if path.get("class") == kind]
    return np.array([float(number) for number in re.findall(r"[-\d.]+", path.get("d") or "")]).reshape(-1, 2)


def texts(svg: ElementTree.Element, kind: str) -> list[str]:
    return [text.text or "" for text in svg.iter("text") if text.get("class") == kind]


def test_a_curve_spans_the_axes_and_rises_where_its_values_rise():
    found = points(drawn(Chart("reward", [Series("reward", [0, 5, 10], [1, 2, 3])])), "line s0")
    assert found[0, 0] == LEFT and found[-1, 0] == WIDTH - RIGHT
    assert (np.diff(found[:, 0]) > 0).all() and (np.diff(found[:, 1]) < 0).all()
    assert found[1] == pytest.approx(found.mean(axis=0), abs=0.11)


def test_everything_stays_inside_the_axes():
    rng = np.random.default_rng(0)
    chart = Chart("kl", [Series("kl", range(500), rng.normal(size=500))], guides=[Guide(9, "high")])
    svg = drawn(chart)
    for kind in ("line s0", "line s0 every"):
        found = points(svg, kind)
        assert (found[:, 0] >= LEFT).all() and (found[:, 0] <= WIDTH - RIGHT).all()
        assert (found[:, 1] >= TOP).all() and (found[:, 1] <= HEIGHT - BOTTOM).all()
    assert texts(svg, "guide") == ["high"]


def test_a_metric_is_read_from_the_log_and_named():
    metrics = [{"step": step, "judges/knn": step / 10} for step in range(5)]
    [line] = lines_of(Chart("judges", [Metric("judges/knn", "nearest neighbours"), Metric("missing")]), metrics)
    assert line.name == "nearest neighbours"
    assert list(line.x) == [0, 1, 2, 3, 4]
    assert list(line.y) == [0, 0.1, 0.2, 0.3, 0.4]


def test_values_that_are_not_finite_are_dropped_and_counted():
    [line] = lines_of(Chart("loss", [Series("loss", [0, 1, 2, 3], [1.0, math.nan, math.inf, 2.0])]), [])
    assert list(line.x) == [0, 3]
    assert line.dropped == 2


def test_a_curve_without_a_finite_value_is_left_out():
    assert lines_of(Chart("loss", [Series("loss", [0], [math.nan])]), []) == []


def test_a_noisy_curve_is_drawn_twice_and_a_short_or_steady_one_once():
    rng = np.random.default_rng(0)
    noisy = drawn(Chart("reward", [Series("reward", range(100), rng.normal(size=100))]))
    assert np.ptp(points(noisy, "line s0")[:, 1]) < np.ptp(points(noisy, "line s0 every")[:, 1])
    for x, y in ((range(100), range(100)), (range(20), rng.normal(size=20))):
        svg = drawn(Chart("reward", [Series("reward", x, y)]))
        assert [path.get("class") for path in svg.iter("path") if "line" in (path.get("class") or "")] == ["line s0"]


def test_the_last_value_of_a_steady_curve_is_written_exactly():
    svg = drawn(Chart("evaluations", [Series("evaluations", range(100), [307_200 / 99 * x for x in range(100)])]))
    assert texts(svg, "last s0") == ["307k"]


def test_last_values_that_would_touch_are_pushed_apart():
    svg = drawn(Chart("judges", [Series(name, [0, 1], [0, 1]) for name in "abc"]))
    heights = sorted(float(text.get("y") or 0) for text in svg.iter("text") if "last" in (text.get("class") or ""))
    assert min(np.diff(heights)) >= 13 - 1e-9


def test_a_long_curve_is_thinned_without_losing_its_peaks():
    values = np.zeros(10_000)
    values[2_345], values[8_000] = 1.0, -1.0
    found = points(drawn(Chart("spikes", [Series("spikes", range(10_000), values)])), "line s0 every")
    assert len(found) <= MOST_POINTS + 2
    assert found[:, 1].min() == pytest.approx(TOP, abs=15)
    assert found[:, 1].max() == pytest.approx(HEIGHT - BOTTOM, abs=15)


def test_labelled_points_are_drawn_as_dots_with_their_names_in_the_order_given():
    svg = drawn(Chart("front", [Series("front", [3, 1, 2], [1, 2, 3], ["β=.1", "<β>", "β=1"])]))
    assert texts(svg, "point") == ["β=.1", "<β>", "β=1"]
    assert len(list(svg.iter("circle"))) == 3


@pytest.mark.parametrize("y", [[2.0], [0.0, 0.0, 0.0], [5.0, 5.0], [1e-9, 2e-9], [-3.0, 1e7]])
def test_a_single_value_a_constant_and_extreme_scales_can_be_drawn(y: list[float]):
    svg = drawn(Chart("flat", [Series("flat", range(len(y)), y)]))
    assert "nan" not in ElementTree.tostring(svg, encoding="unicode")


def test_the_axis_starts_at_zero_when_the_lowest_value_is_near_it():
    near = drawn(Chart("kl", [Series("kl", [0, 1], [0.5, 10])]))
    far = drawn(Chart("kl", [Series("kl", [0, 1], [100, 110])]))
    assert "0" in texts(near, "tick")[:1]
    assert "0" not in texts(far, "tick")[:5]


def test_names_are_escaped():
    chart = Chart("<script>", [Series("a & b", [0, 1], [0, 1])], x_label="<x>", guides=[Guide(0.5, "<g>")])
    text = chart_svg(chart, lines_of(chart, []))
    assert "<script>" not in text and "<x>" not in text and "<g>" not in text
    assert texts(ElementTree.fromstring(text), "name") == ["<x>"]


def test_the_drawing_tells_its_story_to_a_screen_reader():
    svg = drawn(Chart("Mean reward", [Series("reward", [0, 1], [0.1, 0.95])]))
    assert svg.get("aria-label") == "Mean reward: reward from 0.100 to 0.950"


def test_the_running_mean_is_the_mean_of_the_neighbours():
    values = np.random.default_rng(0).normal(size=40).tolist()
    found = running_mean(values, 5)
    expected = [np.mean(values[max(0, position - 2) : position + 3]) for position in range(40)]
    np.testing.assert_allclose(found, expected)
