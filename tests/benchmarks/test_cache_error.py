"""The benchmark of cached against exact laws, with networks of a few units: what it measures, and that it adds up."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def module() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        found = importlib.import_module("cache_error")
        small = {
            "hidden": 16,
            "layers": 2,
            "heads": 2,
            "vocab": 11,
            "mask": 10,
            "mlp": 24,
            "prompt": 4,
            "completion": 8,
        }
        patch.setattr(found, "TOY", replace(found.TOY, **small))
        yield found


@pytest.fixture(scope="module")
def records(module, tmp_path_factory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("bench") / "cache_error.json"
    words = ["--device", "cpu", "--models", "random", "--blocks", "4", "--batch", "2", "--repeats", "1"]
    module.main([*words, "--out", str(out)])
    return json.loads(out.read_text())


def test_without_a_cache_laws_are_exact_and_with_one_they_are_near(records) -> None:
    exact, prefix, block = records
    assert [record["cache"] for record in records] == ["none", "prefix", "block"]
    assert exact["total_variation"] == 0 and exact["log_prob"] < 1e-5
    for record in (prefix, block):
        assert 1e-6 < record["total_variation"] < 0.3 and 1e-6 < record["log_prob"] < 0.5


def test_evaluations_are_the_same_and_sites_are_fewer(records) -> None:
    assert {record["evaluations"] for record in records} == {2 * 8}
    shares = [record["sites"] for record in records]
    assert shares == pytest.approx([1, (12 + 3 * 8 + 12 + 3 * 4) / 96, (12 + 3 * 4 + 12 + 3 * 4) / 96])


def test_a_text_is_right_where_its_digits_go_on_by_that_of_the_prompt(module) -> None:
    text = module.language(64, torch.Generator().manual_seed(0))
    assert text.shape == (64, 16 + 64) and len(text.unique(dim=0)) > 20 and module.right(text) == 1
    text[:, -1] = (text[:, -1] + 1) % module.DIGITS
    assert module.right(text) == pytest.approx(62 / 63)
