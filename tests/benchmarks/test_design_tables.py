"""The tables of the page on design benchmarks: every row has a title, and stands where it belongs."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("design_tables")


def first_cells(table: str) -> list[str]:
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]


def measured(method: str, *activity: float) -> dict[str, Any]:
    names = ("reward_median", "second_share", "kmer_3", "kmer_6", "log_likelihood", "distinct", "pairwise_distance")
    numbers = dict.fromkeys((*names, "nearest_distance", "calls", "evaluations", "seconds"), 1.0)
    known = {"activity": sum(activity) / len(activity), "activity_by_seed": list(activity), "seeds": len(activity)}
    return {"method": method, **numbers, **known}


def test_every_row_of_the_terminator_benchmark_has_a_title(tables: ModuleType) -> None:
    rows = importlib.import_module("terminator_methods").METHODS
    assert {row.partition(", w = ")[0] for row in rows} == set(tables.METHODS)
    assert len(set(map(tables.title, rows))) == len(rows)


def test_rows_with_a_weight_follow_theirs_by_number(tables: ModuleType) -> None:
    rows = [measured(name, 0.0) for name in ("sepo 0.1, w = 12", "sepo 0.1, w = 2", "sepo 0.1", "genetic")]
    title = tables.METHODS["sepo 0.1"]
    assert first_cells(tables.terminators(rows, "sepo")) == [title, f"{title}, w = 2", f"{title}, w = 12"]


def test_rivals_sepo_and_what_begins_at_sft_stand_apart(tables: ModuleType) -> None:
    rows = importlib.import_module("terminator_methods").METHODS
    each = {
        name: first_cells(tables.terminators(list(map(measured, rows, [0.0] * len(rows))), name))
        for name in ("rivals", "sepo", "sft")
    }
    assert sum(map(len, each.values())) == len(rows)
    assert "genetic algorithm" in each["rivals"] and "SEPO as released" in each["rivals"]
    assert all(name.startswith("**SEPO**") == (kind != "rivals") for kind, names in each.items() for name in names)
    assert all("after SFT" in name for name in each["sft"])


def test_a_range_is_shown_of_several_seeds_alone(tables: ModuleType) -> None:
    rows = [measured("genetic", 0.5), measured("elite_replay", 0.0, 0.5, 1.0)]
    one, three = tables.terminators(rows, "rivals").splitlines()[2:]
    assert "| 1 | 0.50 |" in one
    assert "| 3 | 0.50 (0.00 to 1.00) |" in three


def test_the_gap_is_of_the_last_part_and_the_least_is_first(tables: ModuleType) -> None:
    def along(*pairs: tuple[float, float]) -> dict[str, Any]:
        return {"seeds": 1, "parts": [{"reward": reward, "judge": judge} for reward, judge in pairs]}

    found = {"diffu_grpo": along((0, 0), (1, 0)), "elite_replay": along((3, 0), (9, 0), (1, 1.5))}
    lines = tables.gap(found).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| elite replay", "| diffu-GRPO (no KL)"]
    assert lines[0].endswith("| 3.00 / 0.00 | 1.00 / 1.50 | -0.50 |")


def test_a_search_is_summed_up_over_its_runs(tables: ModuleType) -> None:
    def run(instance: str, calls: int, best: float) -> dict[str, Any]:
        costs = {"mean": 0.5, "feasible": 1.0, "cpu_seconds": 7.0}
        return {"function": "c4", "method": "elite replay", "instance": instance, "calls": calls, "best": best, **costs}

    runs = [run("0", 10, 0.1), run("0", 20, 1.0), run("1", 10, 0.1), run("1", 20, 0.25), run("1", 10, 0.4)]
    (line,) = tables.ehrlich([*runs, run("1", 20, 0.25)]).splitlines()[2:]
    assert "| 3 (2) | 0.10 (0.20) | 0.25 (0.50) | 1 | 0.50 | 1.00 | 7 |" in line
