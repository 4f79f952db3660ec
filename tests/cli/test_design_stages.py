"""sepo design, stage by stage: what is complete is kept, what was stopped goes on, and the rest begins anew."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import TrainerCallback

from sepo import load
from sepo.cli import finetune, main, pretrain
from sepo.cli.design_options import Design
from sepo.cli.design_training import finetuned, pretrained, pretraining_steps, task_of
from sepo.cli.oracles import fit_oracles, split_of
from sepo.oracles import read_measurements
from sepo.runs import RunFolder, read_metrics
from tests.cli.designing import COLUMNS, QUICK, SFT, small
from tests.oracles.tables import write_table


def test_what_is_complete_is_kept_and_the_rest_is_made_again(table, capsys):
    assert main(["design", table, *COLUMNS, *QUICK]) == 0
    made = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    assert main(["design", table, *COLUMNS, *QUICK]) == 0
    assert made == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    assert main(["design", table, *COLUMNS, *QUICK, "--finetune.beta", "0.5"]) == 0
    changed = {path.parts[1] for path, before in made.items() if path.stat().st_mtime_ns != before}
    assert changed == {"tuned"}


def test_sft_comes_between_and_the_price_is_paid_to_the_generator(table, monkeypatch, capsys):
    begun = []
    build = finetune.trainer_for

    def watched(*given):
        trainer = build(*given)
        begun.append((trainer.policy.network.state_dict(), trainer.reference.model.network.state_dict()))
        return trainer

    monkeypatch.setattr(finetune, "trainer_for", watched)
    assert main(["design", table, *COLUMNS, *QUICK, *SFT, "--finetune.learning_rate", "0"]) == 0
    start, reference = begun[0]
    generator, sft = (load(f"out/{each}").network.state_dict() for each in ("generator", "sft"))
    assert all(torch.equal(start[name], sft[name]) for name in sft)
    assert all(torch.equal(reference[name], generator[name]) for name in generator)
    assert any(not torch.equal(sft[name], generator[name]) for name in sft)
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["path_kl"] != 0 and summary["sft_seconds"] > 0  # nothing was learned after SFT, which is on the way
    measured = read_measurements(table, "dna", *COLUMNS[1::2])
    what = Design(table, **dict(zip(("sequence", "activity", "second", "group"), COLUMNS[1::2], strict=True)), sft=0.5)
    rows = [json.loads(line)["tokens"] for line in Path("out/most_active.jsonl").read_text().splitlines()]
    known = measured.chosen(split_of(what, measured).reward)
    worth = {tuple(row): number for row, number in zip(known.tokens.tolist(), known.activity.tolist(), strict=True)}
    assert len(rows) == len(known) // 2
    assert min(worth[tuple(row)] for row in rows) >= known.activity.median()
    made = Path("out/sft/model.safetensors").stat().st_mtime_ns
    assert main(["design", table, *COLUMNS, *QUICK, *SFT, "--finetune.learning_rate", "0"]) == 0
    assert Path("out/sft/model.safetensors").stat().st_mtime_ns == made and len(begun) == 1


@pytest.mark.parametrize(("command", "stage"), [(pretrain, "generator"), (finetune, "tuned")])
def test_a_stage_that_was_stopped_goes_on_and_begins_anew_of_another_table(command, stage, table, monkeypatch, capsys):
    what, folder = small(table), Path("out", stage)
    made = pretrained if stage == "generator" else finetuned
    if stage == "tuned":
        fit_oracles(what, task_of(what).measured)
        pretrained(what)
    build = command.trainer_for

    def stopped(*given):
        trainer = build(*given)
        trainer.add_callback(StopAfter(2))
        return trainer

    def stop() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(command, "trainer_for", stopped)
            assert not made(what)

    def steps() -> list[int]:
        return [line["step"] for line in read_metrics(RunFolder(folder)) if "loss" in line]

    stop()
    assert "after step 2, with a checkpoint; the same command goes on from there" in capsys.readouterr().err
    stopped_after = json.loads((folder / "before.json").read_text())["seconds"]
    assert made(what)
    assert steps() == [1, 2, 3, 4] and not list(folder.glob("earlier-*"))
    took = json.loads((folder / "summary.json").read_text())
    assert took[f"{'pretrain' if stage == 'generator' else 'finetune'}_seconds"] > stopped_after > 0
    assert not (folder / "before.json").exists()
    weights = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    assert made(what)
    assert (folder / "model.safetensors").read_bytes() == weights  # as if it had never been stopped
    write_table(Path(table), rows=220)
    stop()  # of the new table, with the checkpoints of the old one beside it
    assert steps() == [1, 2] and len(list(folder.glob("earlier-*"))) == 1
    write_table(Path(table), rows=240)
    assert made(what)
    assert steps() == [1, 2, 3, 4] and len(list(folder.glob("earlier-*"))) == 2


def test_the_generator_is_kept_where_other_oracles_are_asked_for(table):
    assert pretrained(small(table))
    made = Path("out/generator/model.safetensors").stat().st_mtime_ns
    assert pretrained(small(table, doubt=2.0, judge_oracle="mine.py:judge", group=None))
    assert Path("out/generator/model.safetensors").stat().st_mtime_ns == made
    assert pretrained(small(table, hidden_size=16))
    assert Path("out/generator/model.safetensors").stat().st_mtime_ns != made


def test_null_is_none_and_not_the_commands_own_default(table):
    what = small(table)
    fit_oracles(what, task_of(what).measured)
    assert pretrained(what)
    assert finetuned(replace(what, finetune={**what.finetune, "states": None, "max_steps": 1}))
    assert yaml.safe_load(Path("out/tuned/config.yaml").read_text())["states"] is None


@pytest.mark.parametrize(
    ("finetune", "reading"),
    [({}, "merged"), ({"reading": "next_site"}, "next_site"), ({"sampler": "predictor_corrector"}, None)],
)
def test_paths_are_read_in_segments_but_by_samplers_that_visit_sites_again(finetune, reading, table):
    what = small(table)
    fit_oracles(what, task_of(what).measured)
    assert pretrained(what)
    assert finetuned(replace(what, finetune={**what.finetune, "max_steps": 1, **finetune}))
    assert yaml.safe_load(Path("out/tuned/config.yaml").read_text()).get("reading") == reading


def test_the_device_makes_nothing_anew(table):
    what = small(table)
    fit_oracles(what, task_of(what).measured)
    assert pretrained(what) and finetuned(what)
    made = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    there = replace(what, device="cpu")
    fit_oracles(there, task_of(there).measured)
    assert task_of(there).device == "cpu" and pretrained(there) and finetuned(there)
    assert made == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    assert finetuned(replace(there, doubt=2.0))
    assert Path("out/tuned/model.safetensors").stat().st_mtime_ns != made[Path("out/tuned/model.safetensors")]


class StopAfter(TrainerCallback):
    """Ctrl-C once a step is done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_another_column_or_table_is_learned_anew(table, capsys):
    assert main(["design", table, *COLUMNS, *QUICK]) == 0
    before = Path("out/oracles/reward/quality.json").read_text()
    swapped = ("--sequence", "seq", "--activity", "second", "--second", "act", "--group", "chrom")
    assert main(["design", table, *swapped, *QUICK]) == 0
    assert Path("out/oracles/reward/quality.json").read_text() != before


@pytest.mark.parametrize(
    ("rows", "batch", "steps"), [(30, 128, 500), (5_000, 128, 1_562), (2_000, 32, 2_500), (50_000, 128, 4_000)]
)
def test_the_generator_reads_the_table_forty_times_within_bounds(rows, batch, steps, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("sequence,activity\n" + "ACGTACGT,1.0\n" * rows)
    what = Design(data=str(path), pretrain={"per_device_train_batch_size": batch})
    assert pretraining_steps(what) == steps


@pytest.mark.parametrize("algorithm", ["drakes", "elite_replay"])
def test_another_algorithm_has_its_own_options_and_no_price_of_sepo(table, algorithm):
    what = small(table)
    fit_oracles(what, task_of(what).measured)
    assert pretrained(what)
    led = {"rollout_guidance": "best_of_n", "rollout_guidance_kwargs": {"n": 2}} if algorithm == "elite_replay" else {}
    assert finetuned(replace(what, finetune={**what.finetune, "algorithm": algorithm, "max_steps": 1, **led}))
    made = yaml.safe_load(Path("out/tuned/config.yaml").read_text())
    assert (made["algorithm"], made["beta"], made["num_iterations"]) == (algorithm, 0.0, 4)
    assert "path_kl" in json.loads(Path("out/tuned/summary.json").read_text())
