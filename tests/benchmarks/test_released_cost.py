"""The benchmark of the released update's cost, at toy size."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("cut", [1, 0])
def test_the_toy_counts_the_evaluations_of_the_formula_and_says_how_it_was_timed(tmp_path, capsys, cut):
    out = tmp_path / "bench" / "released_cost.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        importlib.import_module("released_cost").main(["--toy", "--slice", str(cut), "--out", str(out)])
    found, printed = json.loads(out.read_text()), capsys.readouterr().out
    released, rollout = 2 * (2 * 2 * 6 * 5 * (1 + 2) + 2 * 2), 4 * 6
    assert found["costs"]["sepo_released"]["evaluations"] == released
    assert found["costs"]["sepo_released"]["with_gradient"] == 4
    for name, ours in (("sepo", 4 * 6), ("sepo, 4 states", 4 * 4)):
        assert found["costs"][name]["evaluations"] == found["costs"][name]["with_gradient"] == ours
        assert found["update"][name]["released_evaluations"] == released / ours
        assert found["step"][name]["released_evaluations"] == (released + rollout) / (ours + rollout)
        assert found["step_mu"][name]["evaluations"] == ours + rollout / 5
    assert all(cost["seconds"] > 0 for cost in found["costs"].values())
    assert ("on 1 of 4 sequences and scaled by 4" if cut else "timed in full") in printed


def test_a_slice_that_is_none_is_refused(capsys):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.syspath_prepend(str(BENCHMARKS))
        importlib.import_module("released_cost").main(["--toy", "--slice", "9"])
    assert "--slice 9" in capsys.readouterr().err
