"""metrics.jsonl: appended, read after a kill, cut on resume."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo.runs import Completions, RunFolder, curve, log_metrics, metric_names, read_metrics, resume_run, start_run
from sepo.runs.completions import completion_steps, write_completions


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return start_run(tmp_path, {"seed": 0})


def test_every_logged_step_is_one_json_object_with_its_step_first(run: RunFolder):
    log_metrics(run, 1, {"reward": np.float32(0.5), "name": "β"})
    log_metrics(run, 2, {"reward": 1, "flag": True})
    lines = run.metrics.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "reward": 0.5, "name": "β"},
        {"step": 2, "reward": 1, "flag": True},
    ]
    assert lines[0].startswith('{"step": 1')


def test_a_run_without_metrics_reads_as_no_steps(run: RunFolder):
    assert read_metrics(run) == []


def test_numbers_that_are_not_finite_come_back_as_numbers(run: RunFolder):
    log_metrics(run, 1, {"kl": math.inf, "loss": math.nan})
    [record] = read_metrics(run)
    assert record["kl"] == math.inf and math.isnan(record["loss"])


def test_a_metric_that_is_a_tensor_is_refused_by_name_and_nothing_is_written(run: RunFolder):
    with pytest.raises(ValueError, match=r"metrics\.loss is of type Tensor.*\.item\(\)"):
        log_metrics(run, 1, {"loss": torch.zeros(())})
    assert not run.metrics.exists()


def test_a_metric_named_step_with_another_step_is_refused(run: RunFolder):
    log_metrics(run, 3, {"step": 3})
    with pytest.raises(ValueError, match="'step' of 4"):
        log_metrics(run, 3, {"step": 4})


def test_a_log_cut_at_any_byte_reads_as_its_whole_lines_and_goes_on(run: RunFolder):
    for step in range(3):
        log_metrics(run, step, {"reward": step / 2, "name": "é"})
    whole = run.metrics.read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        run.metrics.write_bytes(whole[:cut])
        complete = sum(cut >= end - 1 for end in ends)  # a line that lacks only its newline is complete
        assert [record["step"] for record in read_metrics(run)] == list(range(complete)), cut
        log_metrics(run, 9, {"reward": 1.0})
        assert [record["step"] for record in read_metrics(run)] == [*range(complete), 9], cut


def test_a_tail_of_zero_bytes_after_a_power_cut_is_tolerated(run: RunFolder):
    log_metrics(run, 0, {"reward": 1})
    with open(run.metrics, "ab") as file:
        file.write(b"\0" * 100)
    assert [record["step"] for record in read_metrics(run)] == [0]
    log_metrics(run, 1, {"reward": 2})
    assert [record["step"] for record in read_metrics(run)] == [0, 1]


@pytest.mark.parametrize("damage", [b'{"step": 1, "rew', b"[1]", b'{"reward": 1}', b"\xff\xfe"])
def test_damage_before_the_last_line_is_an_error_that_names_the_line(run: RunFolder, damage: bytes):
    run.metrics.write_bytes(b'{"step": 0}\n' + damage + b'\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is damaged.*Delete that line"):
        read_metrics(run)


def test_resuming_drops_later_lines_and_completions_and_keeps_the_bytes_of_the_others(run: RunFolder):
    for step in range(6):
        log_metrics(run, step, {"reward": 0.1 * step})
        write_completions(run, Completions(step, [None], ["x"], {}, [0.0]))
    lines = run.metrics.read_bytes().splitlines(keepends=True)
    resume_run(run, 3)
    assert run.metrics.read_bytes() == b"".join(lines[:4])
    assert completion_steps(run) == [0, 1, 2, 3]
    resume_run(run, 3)
    assert run.metrics.read_bytes() == b"".join(lines[:4])


def test_resuming_after_a_kill_gives_the_log_of_an_uninterrupted_run(run: RunFolder):
    def train(steps: range) -> None:
        for step in steps:
            log_metrics(run, step, {"reward": 1 / (step + 1)})

    train(range(8))
    whole = run.metrics.read_bytes()
    run.metrics.unlink()
    train(range(6))
    run.metrics.write_bytes(run.metrics.read_bytes()[:-7])
    resume_run(run, 3)
    train(range(4, 8))
    assert run.metrics.read_bytes() == whole


def test_resuming_a_run_that_logged_nothing_does_nothing(run: RunFolder):
    resume_run(run, 3)
    assert not run.metrics.exists()


def test_a_curve_holds_the_steps_at_which_a_metric_was_a_number():
    metrics = [
        {"step": 0, "a": 1},
        {"step": 1, "b": 2},
        {"step": 2, "a": "text"},
        {"step": 3, "a": True},
        {"step": 4, "a": 2.5},
    ]
    assert curve(metrics, "a") == ([0, 4], [1.0, 2.5])
    assert curve(metrics, "missing") == ([], [])


def test_only_metrics_with_finite_values_at_two_steps_make_a_curve():
    metrics = [
        {"step": 0, "b": 1.0, "once": 1.0, "nan": math.nan, "text": "x"},
        {"step": 1, "b": 2.0, "nan": 1.0, "a": 0.0, "text": "y", "twice": 1.0},
        {"step": 1, "twice": 2.0},
        {"step": 2, "a": 1.0},
    ]
    assert metric_names(metrics) == ["b", "a"]
