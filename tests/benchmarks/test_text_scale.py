"""The benchmark at the scale of text models, with networks of a few units: what it counts, keeps, and leaves empty."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("text_sizes", "text_step", "text_scale")
GROUP, COMPLETION, FEW, STATES, LENGTH, VOCAB = 4, 4, 2, 2, 13, 211


@pytest.fixture(scope="module")
def scale() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        found = SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
        patch.setattr(found.text_step, "SPAN", 0.0)
        for name, size in found.text_sizes.TOYS.items():
            small = replace(size, hidden=16, layers=1, heads=2, vocab=VOCAB, mask=VOCAB - 1, mlp=size.mlp and 24)
            small = replace(small, prompt=LENGTH - COMPLETION, completion=COMPLETION, few=FEW, states=STATES)
            patch.setitem(found.text_sizes.TOYS, name, replace(small, group=GROUP))
        yield found


class Heights(TorchDispatchMode):
    """How many rows over the vocabulary each tensor held."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dim() > 1 and result.shape[-1] == VOCAB:
            self.found.add(result.numel() // VOCAB)
        return result


def test_full_size_networks_have_the_parameters_of_the_published_ones(scale) -> None:
    sizes = {name: scale.text_sizes.network_of(size, "meta") for name, size in scale.text_sizes.SIZES.items()}
    counts = [scale.text_sizes.Weights.of(network).every for network in sizes.values()]
    assert counts == [169_627_218, 424_477_010, 8_015_581_184]
    assert next(sizes["8B"].parameters()).dtype == torch.bfloat16


def test_operations_are_twice_the_parameters_per_token_and_three_times_that_with_a_backward(scale) -> None:
    weights = scale.text_sizes.Weights(every=100, table=30, head=20)
    forward = scale.text_sizes.Kind(False, False, rows=2, length=5, sites=1)
    assert forward.operations(weights) == 2 * 100 * 10
    assert forward.done(weights) == 2 * (50 * 10 + 20 * 2)
    assert forward._replace(gradient=True).operations(weights) == 3 * forward.operations(weights)
    assert forward._replace(gradient=True).done(weights) == 3 * forward.done(weights)


def test_only_a_known_card_has_a_peak(scale) -> None:
    assert scale.text_sizes.peak_of("NVIDIA H100 80GB HBM3") == 989e12
    assert scale.text_sizes.peak_of("NVIDIA H200") == 989e12
    assert scale.text_sizes.peak_of("NVIDIA H100 PCIe") is None
    assert scale.text_sizes.peak_of("x86_64") is None


@pytest.fixture(scope="module")
def run(scale, tmp_path_factory) -> SimpleNamespace:
    out = tmp_path_factory.mktemp("bench") / "text_scale.json"
    arguments = ["--device", "cpu", "--sizes", "170M", "8B", "--repeats", "1", "--out", str(out)]
    heights = Heights()
    with heights:
        scale.text_scale.main(arguments)
    return SimpleNamespace(arguments=arguments, out=out, records=json.loads(out.read_text()), heights=heights.found)


def test_a_step_is_rollout_reference_and_update_and_their_evaluations_are_counted(run) -> None:
    assert len(run.records) == 2 * 2 * 2
    for record in run.records:
        assert record["seconds"] > 0 and record["bare"] > 0 and record["memory"] > 0
        assert record["of_peak"] is None and record["busy"] is None
        once = GROUP * (COMPLETION if record["sampler"] == "first_hitting" else FEW)
        if record["part"] == "rollout":
            assert record["with_gradient"] == 0 and record["tokens_per_second"] > 0
            assert record["evaluations"] <= once
            continue
        assert record["rollout"] + record["reference"] + record["update"] == pytest.approx(record["seconds"])
        if record["sampler"] == "first_hitting":
            assert record["with_gradient"] == GROUP * STATES
            assert record["evaluations"] == 2 * once + GROUP * STATES


def test_no_array_holds_the_vocabulary_at_every_site(run) -> None:
    """The length is a prime and the largest factor there is: all sites of some rows would be a multiple of it."""
    assert run.heights and not any(height % LENGTH == 0 for height in run.heights)


def test_what_was_measured_is_not_measured_again_and_full_sizes_stay_empty(scale, run, capsys, monkeypatch) -> None:
    monkeypatch.setattr(scale.text_scale, "Subject", None)
    scale.text_scale.main(run.arguments)
    printed = capsys.readouterr().out
    assert "8B, toy" in printed and torch.__version__ in printed
    for line in printed.splitlines():
        if "8,015,581,184" in line:
            assert not any(mark in line for mark in "%.")
