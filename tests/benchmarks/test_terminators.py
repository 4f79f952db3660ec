"""The benchmark of terminators: what guidance is conditioned by, and what is kept, trained and measured again."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sepo.models import save_pretrained
from sepo.samplers import Ancestral
from sepo.tasks import Measured

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = importlib.import_module("terminator_methods")
    monkeypatch.setattr(found, "GUIDED", 4)
    monkeypatch.setattr(found, "STEPS", 5)
    return found


@pytest.fixture
def bench(methods: ModuleType, tmp_path: Path) -> Any:
    """A table of which the judge's groups are by far the most active, and a generator that has learned nothing."""
    base, chance = importlib.import_module("terminator_base"), random.Random(0)
    groups = [*base.REWARD, *base.JUDGE, *base.UNSEEN]
    lines = ["sequence,activity,chrom"]
    for number in range(20 * len(groups)):
        group = groups[number % len(groups)]
        activity = number + (0 if group in base.REWARD else 1000)
        lines.append(f"{''.join(chance.choice('ACGT') for _ in range(12))},{activity},{group}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    task = Measured(str(table), group="chrom", hidden_size=8, stacks=1)
    save_pretrained(task.denoiser(), tmp_path / "generator")
    return methods.Bench(tmp_path / "generator", task)


def test_the_condition_is_learned_from_the_best_tenth_of_the_rewards_groups(bench: Any) -> None:
    base, made = importlib.import_module("terminator_base"), importlib.import_module("terminator_conditional")
    measured = bench.task.measured
    known = [place for place, group in enumerate(measured.groups) if group in base.REWARD]
    best = sorted(known, key=lambda place: -float(measured.activity[place]))[: len(known) // 10]
    found = torch.tensor([row["tokens"] for row in made.most_active(bench.task)])
    assert torch.equal(found, measured.tokens[best])


def test_the_condition_is_made_once_and_both_networks_are_counted(methods: ModuleType, bench: Any) -> None:
    made = importlib.import_module("terminator_conditional")
    folder = bench.folder.parent / "conditional"
    first = made.conditional(bench.folder, bench.task, folder, steps=2)
    assert first.seconds == 0 and first.evaluations > 0
    weights, told = (folder / "model.safetensors").stat().st_mtime_ns, json.loads((folder / "summary.json").read_text())
    found = methods.METHODS["classifier-free guidance"](bench, 0)
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights
    methods.drawn(first.policy, Ancestral(5), 4, 0)
    assert found.evaluations == told["evaluations"] + 2 * first.policy.meter.evaluations
    assert found.designs.shape == (4, 12) and found.calls == len(found.scored) == 0
    assert found.seconds == told["seconds"] > 0
    torch.manual_seed(1)
    save_pretrained(bench.task.denoiser(), bench.folder)
    made.conditional(bench.folder, bench.task, folder, steps=2)
    assert (folder / "model.safetensors").stat().st_mtime_ns != weights


def test_a_guidance_that_learns_asks_no_more_than_fine_tuning(
    methods: ModuleType, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = methods.COLLECTIONS * methods.BATCH
    bench.oracle = lambda tokens: (tokens == 0).double().mean(1)
    monkeypatch.setattr(methods, "VALUE", methods.ValueFit(updates=2, batch=8, hidden_size=4, at_once=2000))
    found = methods.METHODS["svdd 8, learned value"](bench, 0)
    assert found.calls == len(found.scored) == budget and found.designs.shape == (4, 12)
    per_round = methods.LED_BATCH * (2 * methods.LED_STEPS + 1)
    assert budget - per_round < methods.ROUNDS * per_round <= budget
    for name in ("ROUNDS", "COLLECTIONS", "USES"):
        monkeypatch.setattr(methods, name, 1)
    assert methods.METHODS["elite_replay, svdd"](bench, 0).calls == per_round


def test_a_policy_is_trained_once_for_several_rows_and_again_for_another_generator(bench: Any) -> None:
    tuning, trained = importlib.import_module("terminator_tuning"), []

    def train(folder: Path) -> Any:
        trained.append(folder)
        save_pretrained(bench.generator(), folder)
        return tuning.Trained(bench.generator(), np.zeros((3, 12), np.int8), evaluations=7, seconds=100.0)

    first, second = (tuning.kept(bench, "sepo_1", 0, train) for _ in range(2))
    assert len(trained) == 1
    assert (second.evaluations, len(second.scored)) == (first.evaluations, 3) == (7, 3)
    assert second.seconds >= 100
    torch.manual_seed(1)
    save_pretrained(bench.task.denoiser(), bench.folder)
    tuning.kept(bench, "sepo_1", 0, train)
    assert len(trained) == 2


def test_a_cell_counts_for_the_generator_and_the_reward_that_made_it(bench: Any, tmp_path: Path) -> None:
    rows, outcome = importlib.import_module("terminators"), importlib.import_module("terminator_bench").Outcome
    cell, designs = rows.Cell(tmp_path, "pretrained", 3), np.zeros((2, 12), np.int8)
    assert not cell.holds({"model": "one"})
    cell.write(outcome(designs, designs, 2, 5), 1.0, {"model": "one"})
    assert cell.holds({"model": "one"}) and not cell.holds({"model": "another"})
    assert rows.on_disk(tmp_path, {"model": "one"}) == [cell] and rows.on_disk(tmp_path, {"model": "another"}) == []


def test_kmers_are_those_of_equally_many_designs(bench: Any) -> None:
    rows, table = importlib.import_module("terminators"), bench.task.measured
    part = torch.randint(4, (rows.PART, 12), generator=torch.Generator().manual_seed(0))
    one, four = (rows.compared(part.repeat(times, 1), table) for times in (1, 4))
    assert one == pytest.approx(four)
    assert rows.compared(table.tokens[:3], table)["nearest_distance"] == 0


def test_metrics_of_a_cell_are_measured_again_when_other_networks_judge(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, asked = importlib.import_module("terminators"), []
    monkeypatch.setattr(rows, "measured", lambda *what: asked.append(what) or {"activity": 1.0})
    cell = rows.Cell(tmp_path, "pretrained", 0)
    cell.path.write_bytes(b"")
    found = [rows.remembered(cell, bench.task, bench, {"judge": each}) for each in ("one", "one", "another")]
    assert found == [{"activity": 1.0}] * 3
    assert len(asked) == 2


def test_each_set_of_options_keeps_a_policy_that_weights_share(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = importlib.import_module("terminator_tuning")
    names: list[str] = []

    class Known(Exception):
        pass

    def kept(bench: Any, name: str, seed: int, train: Any) -> Any:
        names.append(name)
        raise Known

    monkeypatch.setattr(tuning, "kept", kept)
    for options in ({}, {"w": 2.0}, {"sft": True}, {"states": None}, {"reading": "merged"}, {"num_iterations": 1}):
        with pytest.raises(Known):
            tuning.sepo(0.1, **options)(bench, 0)
    assert names[0] == names[1] and len(set(names)) == len(names) - 1
