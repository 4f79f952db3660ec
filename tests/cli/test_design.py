"""sepo design: from a table to ranked designs, with oracles and a generator of one's own, and mistakes told."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from sepo import load
from sepo.cli import main
from sepo.cli.design_options import Design
from sepo.cli.design_training import task_of
from sepo.cli.marks import marks_of
from sepo.cli.oracles import fit_oracles
from sepo.models import save_pretrained
from sepo.oracles import read_measurements
from tests.cli.designing import COLUMNS, OWN_GENERATOR, QUICK
from tests.oracles.tables import LENGTH


def test_designs_are_made_ranked_and_described(table, capsys):
    assert main(["design", table, *COLUMNS, *QUICK]) == 0
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
    assert {"designs_activity", "designs_second_share", "designs_nearest_distance", "drawn_activity"} <= summary.keys()
    times = [summary[f"{stage}_seconds"] for stage in ("oracles", "pretrain", "finetune", "designs")]
    assert all(took > 0 for took in times)
    report = Path("out/report.html").read_text()
    assert "How far the oracles can be trusted" in report and "Wall time" in report
    odd = "1 row: letters outside the alphabet: row 202"
    assert odd in report and odd in capsys.readouterr().err
    assert load("out/tuned").length == LENGTH


def test_a_run_that_is_not_judged_is_repeated_by_its_recipe_with_all_kept(table, capsys):
    fewer = ["--epochs", "1", "--members", "1", "--pretrain.max_steps", "1", "--finetune.max_steps", "1"]
    columns = ["--sequence", "seq", "--activity", "act", "--group", "chrom", "--stacks", "1"]
    assert main(["design", table, *columns, *QUICK, *fewer, "--finetune.judged", "0", "--oversample", "3"]) == 0
    report, said = Path("out/report.html").read_text(), capsys.readouterr().err
    summary = json.loads(Path("out/summary.json").read_text())
    assert "activity_before" not in summary and "Samples before and after" not in report
    assert f"  judge: {summary['designs_activity']:.2f}\n" in said and "oversample" in report
    made = {path: path.stat().st_mtime_ns for kind in ("safetensors", "npy") for path in Path("out").rglob(f"*.{kind}")}
    assert len(made) > 6
    assert main(["design", "out/config.yaml"]) == 0
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert "Drawing" not in capsys.readouterr().err and json.loads(Path("out/summary.json").read_text()) == summary
    assert main(["design", "out/config.yaml", "--num", "4", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["num"] == 4 and printed["data"] == table and printed["finetune"]["judged"] == 0


def test_a_generator_that_does_not_fit_is_told_before_anything_is_fitted(table, capsys):
    Path("short.csv").write_text("sequence,activity\n" + "ACGTACGT,1\n" * 60)
    Path("protein.csv").write_text("sequence,activity\n" + f"{'MKV' * 6}GA,1\n" * 60)
    task = task_of(Design(table, sequence="seq", activity="act", hidden_size=8, stacks=1))
    save_pretrained(task.denoiser(), "generator")
    words = [*OWN_GENERATOR, "--generator", "generator"]
    assert main(["design", "short.csv", *words]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "generator='generator' does not fit the table: it draws sequences of 20 tokens" in said
    assert "those of short.csv have 8 letters" in said
    assert main(["design", "protein.csv", *words, "--alphabet", "protein"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "knows 5 ids, of which 4 is the mask, and must know the 20 letters" in said
    assert not Path("out").exists()


def test_a_published_generator_needs_leave_for_its_pickles(table, capsys):
    torch.save({"state_dict": {}}, "published.ckpt")
    words = ["design", table, *COLUMNS, *OWN_GENERATOR, "--generator", "published.ckpt"]
    assert main(words) == 1
    assert "--generator_init_kwargs.pickles true" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--generator_init_kwargs.pickles", "true"]) == 1
    assert "--generator_init_kwargs" not in " ".join(capsys.readouterr().err.split())


def test_the_options_of_a_generator_reach_all_that_load_it():
    own = {"generator": "mine.ckpt", "generator_init_kwargs": {"pickles": True}}
    assert Design(**own).generator_options == {"pickles": True}
    assert Design(generator="x", finetune={"model_init_kwargs": {"ema": False}}).generator_options == {"ema": False}
    assert Design(finetune={"model_init_kwargs": {"ema": False}}).generator_options == {}


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
    words = [*QUICK, "--sequence", "seq", "--activity", "act", "--group", "chrom", *mine]
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
    assert main(["design", table, *COLUMNS, *QUICK]) == 0
    words = [*OWN_GENERATOR, "--generator", "out/generator", "--output", "other"]
    assert main(["design", table, *COLUMNS, *words]) == 0
    assert not Path("other/generator").exists() and Path("other/designs.csv").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "There is no table"),
        (("nowhere.csv",), "nowhere.csv is not there"),
        (("table.csv",), "no column 'sequence'"),
        (("table.csv", *COLUMNS, "--reward_groups", "c0"), "all three parts"),
        (
            ("folds.csv", "--group", "fold", "--reward_groups", "1", "--judge_groups", "2", "--unseen_groups", "2"),
            "'2' is in",
        ),
        (("table.csv", *COLUMNS, "--num", "0"), "num=0"),
        (("table.csv", *COLUMNS, "--oversample", "0"), "oversample=0"),
        (("table.csv", *COLUMNS, "--motifs", "none.meme"), "none.meme is not there"),
        (("table.csv", *COLUMNS, "--generator_init_kwargs.pickles", "true"), "of a generator of your own"),
        (("nowhere.yaml",), "There is no recipe 'nowhere.yaml'"),
        (("table.csv", *COLUMNS, "--reward_oracle", "a:b", "--judge_oracle", "a:b"), "what is rewarded cannot judge"),
        (
            ("table.csv", *COLUMNS, "--output", "o", "--judge_oracle", "./o/oracles/reward"),
            "the reward's oracle, which",
        ),
        (
            ("table.csv", *COLUMNS, "--output", "o", "--reward_oracle", "o/oracles/judge"),
            "is fitted in 'o/oracles/judge'",
        ),
        (("table.csv", *COLUMNS, "--judge_oracle", "nothing"), "'nothing' names no oracle"),
        (("table.csv", *COLUMNS, "--judge_oracle", "nobody --at home"), "'nobody' cannot be started"),
        (("table.csv", *COLUMNS, "--sft", "1.5"), "sft=1.5: must be a share above 0 and up to 1"),
        (("table.csv", *COLUMNS, "--sft_kwargs.max_steps", "5"), "there is no SFT; name the share with --sft"),
        (("few.csv",), "only 3 sequences can be used (rows 2, 3, 5), and 50 are the least"),
        (("table.csv", *COLUMNS, "--cluster", "12"), "group='chrom' and cluster=12: both make groups"),
        (("table.csv", *COLUMNS, "--device", "abacus"), "device='abacus': torch sees cpu"),
        (("few.csv",), "row 4 'ACGN' ('N' at letter 4)"),
    ],
)
def test_a_mistake_is_told(table, words, told, capsys):
    Path("few.csv").write_text("sequence,activity\nACGT,1\nACGA,2\nACGN,2\nACGC,3\n")
    rows = [f"{'ACGT' * 3},{row}," + ("" if row == 9 else f"{row % 3}") for row in range(60)]
    Path("folds.csv").write_text("\n".join(["sequence,activity,fold", *rows]) + "\n")
    assert main(["design", *words]) in (1, 2)
    shown = capsys.readouterr().err
    assert told in shown and "Traceback" not in shown


def test_several_processes_are_refused(table, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["design", table]) == 2
    assert "WORLD_SIZE=2: `sepo design` runs in one process" in " ".join(capsys.readouterr().err.split())


def test_too_few_for_sft_are_told_before_anything_is_fitted(table, capsys):
    assert main(["design", table, *COLUMNS, *QUICK, "--sft", "0.05"]) == 1
    assert "and 10 are the least that say" in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()
