"""sepo design: from a table to ranked designs, stage by stage, and what is complete is not made again."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from transformers import TrainerCallback

from sepo import load
from sepo.cli import finetune, main, pretrain
from sepo.cli.design_options import Design
from sepo.cli.design_training import finetuned, pretrained, pretraining_steps, task_of
from sepo.cli.oracles import fit_oracles, marks_of, split_of
from sepo.models import save_pretrained
from sepo.oracles import read_measurements
from sepo.runs import RunFolder, read_metrics
from tests.oracles.tables import LENGTH, write_table

COLUMNS = ("--sequence", "seq", "--activity", "act", "--second", "second", "--group", "chrom")
SMALL = (
    *("--num", "8", "--epochs", "2", "--members", "2", "--hidden_size", "8", "--output", "out"),
    *("--pretrain.max_steps", "4", "--pretrain.per_device_train_batch_size", "32", "--pretrain.use_cpu", "true"),
    *("--pretrain.logging_steps", "1"),
    *("--finetune.max_steps", "4", "--finetune.per_device_train_batch_size", "8", "--finetune.sampling_steps", "4"),
    *("--finetune.judged", "16", "--finetune.use_cpu", "true", "--finetune.logging_steps", "1"),
)


SFT = ("--sft", "0.5", "--sft_kwargs.max_steps", "4", "--sft_kwargs.use_cpu", "true")


@pytest.fixture
def table() -> str:
    return str(write_table(Path("table.csv"), rows=200))


def test_designs_are_made_ranked_and_described(table, capsys):
    assert main(["design", table, *COLUMNS, *SMALL]) == 0
    with open("out/designs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and len({row["sequence"] for row in rows}) == 8
    assert {"reward", "judge", "other", "doubt", "nearest_distance"} <= rows[0].keys()
    assert all(len(row["sequence"]) == LENGTH and set(row["sequence"]) <= set("ACGT") for row in rows)
    rewards = [float(row["reward"]) for row in rows]
    assert rewards == sorted(rewards, reverse=True)
    again = read_measurements("out/designs.fasta", activity="reward")
    assert again.alphabet.decode(again.tokens) == [row["sequence"] for row in rows]
    summary = json.loads(Path("out/summary.json").read_text())
    assert {"activity", "activity_before", "path_kl", "oracle_judge_unseen", "kmer_3", "second_share"} <= summary.keys()
    times = [summary[f"{stage}_seconds"] for stage in ("oracles", "pretrain", "finetune", "designs")]
    assert all(took > 0 for took in times)
    report = Path("out/report.html").read_text()
    assert "How far the oracles can be trusted" in report and "Wall time" in report
    odd = "1 row: letters outside the alphabet: row 202"
    assert odd in report and odd in capsys.readouterr().err
    assert load("out/tuned").length == LENGTH


def test_samples_of_a_table_are_letters(table, capsys):
    what = Design(table, sequence="seq", activity="act", output="out", hidden_size=8, stacks=1)
    save_pretrained(task_of(what).denoiser(), "generator")
    words = ["sample", "generator", "--num", "3", "--steps", "4", "--device", "cpu", "--task", "measured"]
    words += ["--task.data", table, "--task.sequence", "seq", "--task.activity", "act"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(len(line) == LENGTH and set(line) <= set("ACGT") for line in lines)
    assert main([*words, "--output", "found.fasta"]) == 0
    expected = "".join(f">sample_{number}\n{line}\n" for number, line in enumerate(lines, 1))
    assert Path("found.fasta").read_text() == expected
    assert main([*words, "--output", "found.jsonl"]) == 0
    rows = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in rows] == lines
    assert main([*words[:8], "--output", "found.fasta"]) == 2
    assert "FASTA needs a task that knows the letters" in capsys.readouterr().err


def test_what_is_complete_is_kept_and_the_rest_is_made_again(table, capsys):
    assert main(["design", table, *COLUMNS, *SMALL]) == 0
    made = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    assert main(["design", table, *COLUMNS, *SMALL]) == 0
    assert made == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    assert main(["design", table, *COLUMNS, *SMALL, "--finetune.beta", "0.5"]) == 0
    changed = {path.parts[1] for path, before in made.items() if path.stat().st_mtime_ns != before}
    assert changed == {"tuned"}


def test_an_oracle_that_knows_nothing_is_warned_of(table, capsys):
    Path("mine.py").write_text("""
def opposite(words):
    return [-float(word.count("TA")) for word in words]

def same(words):
    return [1.0 for _ in words]
""")
    mine = {"reward_oracle": "mine.py:opposite", "judge_oracle": "mine.py:same"}
    what = Design(table, sequence="seq", activity="act", group="chrom", output="out", **mine)
    fit_oracles(what, task_of(what).measured)
    said = " ".join(capsys.readouterr().err.split())
    assert "That is weak (below 0.3): designs will be made for what this oracle imagines" in said
    assert "That is weak (below 0.3): what it says of the designs means little" in said


ORACLES = """\
import sys

def judge(words):
    open("asked.txt", "a").write(f"{len(words)}\\n")
    return [float(word.count("TA")) for word in words]

if __name__ == "__main__":
    for record in open(sys.argv[1]).read().split(">")[1:]:
        print("".join(record.split()[1:]).count("T"))
"""


def test_a_function_of_a_module_is_watched_without_being_imported():
    Path("watched/deep").mkdir(parents=True)
    for package in ("watched", "watched/deep"):
        Path(package, "__init__.py").write_text("raise RuntimeError('imported')")
    source = Path("watched/deep/mine.py")
    source.write_text(ORACLES)
    (path, before), *others = marks_of("watched.deep.mine:judge").items()
    assert Path(path).samefile(source) and not others
    source.write_text(ORACLES.replace('"TA"', '"TT"'))
    assert marks_of("watched.deep.mine:judge").keys() == {path}
    assert marks_of("watched.deep.mine:judge")[path] != before
    assert marks_of("watched.mine:judge") == marks_of("sys:judge") == marks_of("not_there:judge") == {}


def test_a_function_whose_source_is_not_found_is_told_of(table, monkeypatch, capsys):
    made = ModuleType("made_up")
    exec(f"{ORACLES.partition('if __name__')[0]}reward = judge", vars(made))
    monkeypatch.setitem(sys.modules, "made_up", made)
    mine = {"reward_oracle": "made_up:reward", "judge_oracle": "made_up:judge"}
    what = Design(table, sequence="seq", activity="act", group="chrom", output="out", **mine)
    fit_oracles(what, task_of(what).measured)
    said = " ".join(capsys.readouterr().err.split())
    assert "That is weak" not in said
    assert "made_up:reward: no source file of it was found" in said and "delete out/oracles/reward" in said


@pytest.mark.slow
def test_every_oracle_can_be_ones_own(table, capsys):
    Path("mine.py").write_text(ORACLES)
    mine = ["--reward_oracle", f"{sys.executable} mine.py {{fasta}}", "--judge_oracle", "mine.py:judge"]
    words = [*SMALL, "--sequence", "seq", "--activity", "act", "--group", "chrom", *mine]
    assert main(["design", table, *words]) == 0
    with open("out/designs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["reward"]) == row["sequence"].count("T") for row in rows)
    assert all(float(row["judge"]) == row["sequence"].count("TA") for row in rows)
    assert "doubt" not in rows[0] and not list(Path("out/oracles").rglob("*.safetensors"))
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["oracle_judge_unseen"] > 0.9  # the table's activity is that number, with noise
    asked, made = Path("asked.txt").read_text(), Path("out/tuned/model.safetensors").stat().st_mtime_ns
    assert main(["design", table, *words]) == 0
    assert Path("out/tuned/model.safetensors").stat().st_mtime_ns == made
    assert Path("asked.txt").read_text().count("\n") < 2 * asked.count("\n")  # its test was kept
    Path("mine.py").write_text(ORACLES.replace('"TA"', '"TT"'))
    assert main(["design", table, *words]) == 0
    assert Path("out/tuned/model.safetensors").stat().st_mtime_ns != made


def test_a_generator_of_ones_own_is_taken(table, capsys):
    assert main(["design", table, *COLUMNS, *SMALL]) == 0
    words = [*SMALL, "--generator", "out/generator", "--output", "other"]
    assert main(["design", table, *COLUMNS, *words]) == 0
    assert not Path("other/generator").exists() and Path("other/designs.csv").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "There is no table"),
        (("nowhere.csv",), "nowhere.csv is not there"),
        (("table.csv",), "no column 'sequence'"),
        (("table.csv", *COLUMNS, "--reward_groups", "c0"), "all three parts"),
        (("table.csv", *COLUMNS, "--num", "0"), "num=0"),
        (("table.csv", *COLUMNS, "--reward_oracle", "a:b", "--judge_oracle", "a:b"), "what is rewarded cannot judge"),
        (("table.csv", *COLUMNS, "--judge_oracle", "nothing"), "'nothing' names no oracle"),
        (("table.csv", *COLUMNS, "--judge_oracle", "nobody --at home"), "'nobody' cannot be started"),
        (("table.csv", *COLUMNS, "--sft", "1.5"), "sft=1.5: must be a share above 0 and up to 1"),
        (("table.csv", *COLUMNS, "--sft_kwargs.max_steps", "5"), "there is no SFT; name the share with --sft"),
        (("few.csv",), "only 3 sequences can be used (rows 2, 3, 5), and 30 are the least"),
        (("few.csv",), "row 4 'ACGN' ('N' at letter 4)"),
    ],
)
def test_a_mistake_is_told(table, words, told, capsys):
    Path("few.csv").write_text("sequence,activity\nACGT,1\nACGA,2\nACGN,2\nACGC,3\n")
    assert main(["design", *words]) in (1, 2)
    shown = capsys.readouterr().err
    assert told in shown and "Traceback" not in shown


def test_sft_comes_between_and_the_price_is_paid_to_the_generator(table, monkeypatch, capsys):
    begun = []
    build = finetune.trainer_for

    def watched(*given):
        trainer = build(*given)
        begun.append((trainer.policy.network.state_dict(), trainer.reference.model.network.state_dict()))
        return trainer

    monkeypatch.setattr(finetune, "trainer_for", watched)
    assert main(["design", table, *COLUMNS, *SMALL, *SFT, "--finetune.learning_rate", "0"]) == 0
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
    assert main(["design", table, *COLUMNS, *SMALL, *SFT, "--finetune.learning_rate", "0"]) == 0
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
    assert made(what)
    assert steps() == [1, 2, 3, 4] and not list(folder.glob("earlier-*"))
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


def small(table: str, **changed) -> Design:
    """SMALL and COLUMNS, in Python."""
    shared = {"max_steps": 4, "use_cpu": True, "logging_steps": 1}
    options = {
        **{"sequence": "seq", "activity": "act", "second": "second", "group": "chrom", "output": "out"},
        **{"epochs": 1, "members": 1, "hidden_size": 8, "stacks": 1},
        "pretrain": shared | {"per_device_train_batch_size": 32},
        "finetune": shared | {"per_device_train_batch_size": 8, "sampling_steps": 4, "judged": 8},
    }
    return Design(table, **(options | changed))


class StopAfter(TrainerCallback):
    """Ctrl-C once a step is done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_several_processes_are_refused(table, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["design", table]) == 2
    assert "WORLD_SIZE=2: `sepo design` runs in one process" in " ".join(capsys.readouterr().err.split())


def test_too_few_for_sft_are_told_before_anything_is_fitted(table, capsys):
    assert main(["design", table, *COLUMNS, *SMALL, "--sft", "0.05"]) == 1
    assert "and 10 are the least that say" in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


def test_another_column_or_table_is_learned_anew(table, capsys):
    assert main(["design", table, *COLUMNS, *SMALL]) == 0
    before = Path("out/oracles/reward/quality.json").read_text()
    swapped = ("--sequence", "seq", "--activity", "second", "--second", "act", "--group", "chrom")
    assert main(["design", table, *swapped, *SMALL]) == 0
    assert Path("out/oracles/reward/quality.json").read_text() != before


@pytest.mark.parametrize(
    ("rows", "batch", "steps"), [(30, 128, 500), (5_000, 128, 1_562), (2_000, 32, 2_500), (50_000, 128, 4_000)]
)
def test_the_generator_reads_the_table_forty_times_within_bounds(rows, batch, steps, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("sequence,activity\n" + "ACGTACGT,1.0\n" * rows)
    what = Design(data=str(path), pretrain={"per_device_train_batch_size": batch})
    assert pretraining_steps(what) == steps
