"""No method changes in silence: its first steps are those in golden.json."""

from __future__ import annotations

from dataclasses import make_dataclass

import pytest

from sepo.objectives.algorithms import ALGORITHMS
from tests.training.golden import RENEW, RUNS, constants, differences, record, stored

CONSTANTS = [
    (name, option, default * 1.5)
    for name, kind in ALGORITHMS.items()
    for option, default in constants(kind).items()
    if isinstance(default, float) and default
]
CHEAP = [("espo", "epsilon")]


@pytest.mark.parametrize("name", RUNS)
def test_every_method_goes_the_way_it_went(name):
    wrong = differences(stored().get(name), record(name))
    assert not wrong, "\n".join((f"The trajectory of {name} is not the golden one:", *wrong, RENEW))


def test_no_trajectory_is_kept_of_a_run_that_is_gone():
    gone = stored().keys() - RUNS.keys()
    assert not gone, f"{sorted(gone)}: these runs are gone. {RENEW}"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [pytest.param(*each, marks=() if each[:2] in CHEAP else pytest.mark.slow) for each in CONSTANTS],
)
def test_a_method_with_another_constant_goes_another_way(monkeypatch, name, option, value):
    kind = ALGORITHMS[name]
    other = make_dataclass(kind.__name__, [(option, float, value)], bases=(kind,), frozen=True)
    monkeypatch.setitem(ALGORITHMS, name, other)
    assert differences(stored().get(name), record(name))
