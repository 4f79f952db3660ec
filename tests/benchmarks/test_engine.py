"""The engine's benchmark at toy size: it runs, its shares add up, its evaluations are those of the algorithm."""

from __future__ import annotations

import importlib
import io
import json
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def stopwatch() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("stopwatch")


@dataclass(frozen=True)
class Run:
    printed: str
    written: dict[str, Any]


@pytest.fixture(scope="module")
def toy(stopwatch: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out, printed = tmp_path_factory.mktemp("bench") / "engine.json", io.StringIO()
    once = ["--updates", "1", "--repeats", "1", "--full-repeats", "1"]
    with redirect_stdout(printed):
        importlib.import_module("engine").main(["--toy", *once, "--out", str(out)])
    return Run(printed.getvalue(), json.loads(out.read_text()))


def test_the_toy_benchmark_prints_its_settings_and_a_table_and_writes_what_it_printed(toy: Run) -> None:
    assert "updates=1" in toy.printed and "outside the network" in toy.printed
    assert toy.written["settings"]["updates"] == 1
    for name, case in toy.written["cases"].items():
        assert name in toy.printed
        assert 0 < case["outside_network"] < 1
        assert case["shares"]["rollout"] > 0 and case["shares"]["optimizer"] > 0
        assert sum(case["shares"].values()) == pytest.approx(1.0)
        assert case["peak_memory_mib"] > 10


def test_evaluations_per_step_are_rollout_reading_and_reference(toy: Run) -> None:
    without, with_reference = toy.written["cases"]["toy"], toy.written["cases"]["toy-beta"]
    assert without["evaluations_per_step_with_gradient"] == 8 * 2
    assert without["evaluations_per_step"] == 8 * 3 + 8 * 2
    assert with_reference["evaluations_per_step"] == 8 * 3 + 8 * 3 + 8 * 2
    assert without["rollout_ratio"]["evaluations"] == 8 * 3
    assert without["rollout_ratio_full"]["forwards"] == 6


def test_moments_are_charged_to_the_innermost_section(stopwatch: ModuleType) -> None:
    moments = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    watch = stopwatch.Stopwatch(lambda: next(moments))
    with watch.section("rollout"), watch.section("network"):
        pass
    assert watch.lap() == {"other": 1.0 + 5.0, "rollout": 2.0 + 4.0, "network": 3.0}


def test_the_backward_is_the_losss_until_the_gradient_reaches_the_logits(stopwatch: ModuleType) -> None:

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, seconds):
            ctx.seconds = seconds
            return x * 1.0

        @staticmethod
        def backward(ctx, grad):
            time.sleep(ctx.seconds)
            return grad, None

    watch = stopwatch.Stopwatch(time.perf_counter)
    call = watch.network(lambda x: Slow.apply(x, 0.05))
    loss = Slow.apply(call(torch.ones(1, requires_grad=True)), 0.02).sum()
    with watch.section("loss"):
        loss.backward()
    spent = watch.lap()
    assert 0.02 <= spent["loss"] < 0.05 <= spent[stopwatch.BACKWARD]
