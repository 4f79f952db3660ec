"""Two gloo processes against one: the same rewards are seen, and the same steps taken but for the order of sums."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from sepo.runs import RunFolder, completion_steps, read_completions
from sepo.training.checkpoint import last_complete
from tests.training import launched
from tests.training.toys import lines

ROOT = Path(__file__).parents[2]
SLOW = [case for case in launched.CASES if case not in ("unconditional", "text")]


def launch(folder: Path, *cases: str) -> str:
    """Runs the cases on two processes; what they printed if they failed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    script = [str(ROOT / "tests" / "training" / "launched.py"), str(folder), *cases]
    done = subprocess.run([*command, *script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def seen(folder: Path) -> list[Counter]:
    """What was sampled and what it was worth, log line by log line, in no order."""
    run = RunFolder(folder)
    tables = [read_completions(run, step) for step in completion_steps(run)]
    return [
        Counter(map(str, zip(each.prompts, each.completions, *each.rewards.values(), strict=True))) for each in tables
    ]


def agree(one: Path, two: Path) -> None:
    assert seen(one) == seen(two) != []
    alone, together = lines(one), lines(two)
    assert [line["step"] for line in alone] == [line["step"] for line in together]
    for first, second in zip(alone, together, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            counted = "ratio" in name  # means over the sites that count, micro-batch by micro-batch: not linear
            assert second[name] == pytest.approx(value, rel=1e-3, abs=0.05 if counted else 2e-4), (name, first["step"])
    weights = [torch.load(folder / "weights.pt") for folder in (one, two)]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-4), name


def test_two_processes_do_what_one_does(tmp_path):
    cases = ["unconditional", "text"]
    launch(tmp_path / "two", *cases)
    for case in cases:
        launched.run(tmp_path / "one" / case, case, world=1)
        agree(tmp_path / "one" / case, tmp_path / "two" / case)


@pytest.mark.slow
def test_two_processes_do_what_one_does_in_every_way_of_training(tmp_path):
    launch(tmp_path / "two", *SLOW)
    for case in SLOW:
        launched.run(tmp_path / "one" / case, case, world=1)
        agree(tmp_path / "one" / case, tmp_path / "two" / case)


@pytest.mark.slow
def test_two_processes_resume_where_they_stopped(tmp_path):
    launch(tmp_path, "resumed")
    folder = tmp_path / "resumed"
    first, weights = lines(folder), torch.load(folder / "weights.pt")
    (folder / "checkpoint-6" / "trainer_state.json").unlink()
    (folder / "checkpoint-4" / "trainer_state.json").unlink()
    assert last_complete(folder) == folder / "checkpoint-2"
    launch(tmp_path, "resumed:resume")
    assert lines(folder) == first
    assert all(torch.equal(weight, weights[name]) for name, weight in torch.load(folder / "weights.pt").items())


@pytest.mark.slow
def test_ctrl_c_that_one_process_hears_stops_both_after_the_same_step(tmp_path):
    launch(tmp_path, "interrupted")
    assert last_complete(tmp_path / "interrupted") == tmp_path / "interrupted" / "checkpoint-3"


@pytest.mark.slow
def test_a_run_of_two_processes_is_not_resumed_by_one(tmp_path):
    launch(tmp_path, "resumed")
    with pytest.raises(ValueError, match=r"the number of processes = 1 \(was 2\)"):
        launched.run(tmp_path / "resumed", "resumed", world=1, resume=True)


@pytest.mark.slow
def test_pretraining_runs_on_two_processes_and_resumes(tmp_path):
    launch(tmp_path, "pretraining")
    first = torch.load(tmp_path / "pretraining" / "weights.pt")
    losses = lines(tmp_path / "pretraining")
    launch(tmp_path, "pretraining:resume")
    again = torch.load(tmp_path / "pretraining" / "weights.pt")
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert lines(tmp_path / "pretraining") == losses
