"""The table of samplers and kinds of model, at its quick size."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from sepo.samplers import SAMPLERS, sampler_named

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILL_MASKS = {"first_hitting", "left_to_right", "remdm", "gibbs", "confidence", "dplm"}
KINDS = ("masked posterior", "masked score", "uniform posterior", "uniform leave-one-out")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench") / "deep" / "sampler_table.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        importlib.import_module("sampler_table").main(["--quick", "--out", str(out)])
    return json.loads(out.read_text())


def distances(row: dict[str, Any]) -> list[Any]:
    return [row["kinds"][kind]["total_variation"] for kind in KINDS]


def test_every_sampler_has_its_rows_and_says_what_it_refuses(found: dict[str, Any]) -> None:
    assert {row["sampler"] for row in found["rows"]} == set(SAMPLERS)
    for row in found["rows"]:
        assert row["exact_density"] == sampler_named(row["sampler"], None, row["options"]).exact_density
        masked, uniform = distances(row)[:2], distances(row)[2:]
        assert None not in masked
        if row["sampler"] in FILL_MASKS:
            assert uniform == [None, None]
            assert all("Uniform" in row["kinds"][kind]["how"] for kind in KINDS[2:])


def test_a_model_of_either_meaning_has_the_same_law(found: dict[str, Any]) -> None:
    for row in found["rows"]:
        posterior, score, uniform, left_out = distances(row)
        assert score == pytest.approx(posterior, abs=1e-6)
        assert left_out == (None if uniform is None else pytest.approx(uniform, abs=1e-5))


def test_one_site_per_step_is_exact_and_grids_come_closer_with_more_steps(found: dict[str, Any]) -> None:
    highest = found["floor"]["highest_of_100"]
    assert 0 < found["floor"]["mean"] < highest < 0.05
    for row in found["rows"]:
        how, distance = row["kinds"][KINDS[0]]["how"], distances(row)[0]
        if row["steps"] is None and row["exact_density"]:
            assert distance < (1e-6 if how == "enumerated" else 1.3 * highest)
        if row["options"] == {"rule": "low_confidence"}:
            assert distance > 0.2
    for name in ("ancestral", "tau_leaping", "predictor_corrector", "remdm"):
        coarse, fine = (distances(row) for row in found["rows"] if row["sampler"] == name)
        for few, many in zip(coarse, fine, strict=True):
            assert many is None if few is None else many < 0.4 * few
