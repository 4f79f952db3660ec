"""The options of sepo design: how they reach its stages, and what is refused before anything is fitted."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from sepo.cli import finetune, main
from sepo.cli.design_options import Design
from sepo.cli.design_report import _before
from sepo.cli.design_training import pretrained
from sepo.cli.design_words import in_words
from sepo.cli.marks import files_of
from sepo.cli.parsing import parse
from tests.cli.designing import COLUMNS, QUICK, small


def test_options_come_back_from_words_as_they_were():
    scheduler = {"min_lr": 1e-5, "none": None, "text": "1e-05", "word": "null", "dashes": "--x", "lines": "a\nb: c"}
    more = {"list": [1e-5, None, "yes"], "switch": True, "deep": {"of": 1, "nothing": {}}, "long": "word " * 40 + "end"}
    options = {"lr_scheduler_kwargs": scheduler | more, "learning_rate": 1e-5, "states": None, "reward": ["a:b", "c:d"]}
    assert parse(finetune.GRAMMAR, in_words(options)).values == options


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--finetune.betaa 1", "Of the options --finetune.*: --betaa: there is no such option; did you mean 'beta'?"),
        ("--finetune.max_steps many", "Of the options --finetune.*: --max_steps many: expected a whole number."),
        ("--finetune.num_iterations 0", "Of the options --finetune.*: num_iterations=0: must be at least 1"),
        ("--sft 0.5 --sft_kwargs.max_stepz 1", "Of the options --sft_kwargs.*: --max_stepz: there is no such option"),
        ("--pretrain.max_stepz 1", "Of the options --pretrain.*: --max_stepz: there is no such option"),
        ("--finetune.model x", "finetune.model='x': `sepo design` says it itself; leave it out, and set --generator"),
        ("--finetune.seed 1", "finetune.seed=1: `sepo design` says it itself; leave it out, and set --seed"),
        ("--pretrain.output_dir x", "pretrain.output_dir='x': `sepo design` says it itself; leave it out, and set --o"),
        ("--sft 0.5 --sft_kwargs.dataset x", "sft_kwargs.dataset='x': `sepo design` says it itself"),
        ("--generator g", "nothing is pretrained, since generator='g' is taken; leave one of them out"),
        ("--doubt -1", "doubt=-1.0: must be 0, which trusts the mean"),
        ("--guidance svdd --guidance_kwargs.candidates 2.5", "candidates=2.5 must be a whole number"),
        ("--guidance smc --guidance_kwargs.beta 0 --guidance_kwargs.particles 2", "needs beta above 0"),
        (
            "--guidance classifier --guidance_kwargs.gamma 1 --reward_oracle mine.py:count",
            "guidance='classifier' follows the gradient of the reward, and reward_oracle='mine.py:count' has none",
        ),
        (
            "--finetune.algorithm drakes --reward_oracle mine.py:count",
            "finetune.algorithm='drakes' follows the gradient of the reward",
        ),
        (
            "--guidance classifier --guidance_kwargs.gamma 1 --reward_oracle 'python s.py --weights m.ckpt'",
            "is a command, which has none",
        ),
        (
            """--judge_oracle "python it's.py" """,
            "cannot be read: No closing quotation. Close",
        ),
    ],
)
def test_mistakes_of_later_stages_are_told_before_the_first(table, words, told, capsys):
    Path("mine.py").write_text("def count(words):\n    return [word.count('TA') for word in words]\n")
    assert main(["design", table, *COLUMNS, *QUICK, *shlex.split(words)]) in (1, 2)
    said = " ".join(capsys.readouterr().err.split())
    assert told in said and "Fitting" not in said
    assert not [*Path().rglob("*.safetensors")]


def test_no_stage_is_refused_what_another_option_does_not_say():
    for taken in ({"finetune": {"beta": 0.1}}, {"pretrain": {"model": "mine"}}, {"generator": "mine"}):
        assert Design("table.csv", **taken)
    with pytest.raises(ValueError, match=re.escape("pretrain={'max_steps': 4}: nothing is pretrained")):
        Design("table.csv", generator="mine", pretrain={"max_steps": 4})


def test_a_generator_is_trained_again_where_its_held_out_data_change(table):
    held_out = Path("held.jsonl")
    held_out.write_text('{"tokens": [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]}\n' * 2)
    what = small(table)
    what = replace(what, pretrain={**what.pretrain, "max_steps": 1, "eval_dataset": str(held_out)})
    assert pretrained(what)
    made = Path("out/generator/model.safetensors").stat().st_mtime_ns
    assert pretrained(what)
    assert Path("out/generator/model.safetensors").stat().st_mtime_ns == made
    held_out.write_text(held_out.read_text().replace("3", "2"))
    assert pretrained(what)
    assert Path("out/generator/model.safetensors").stat().st_mtime_ns != made


def test_pickled_weights_count_where_there_are_no_others():
    folder = Path("mine")
    folder.mkdir()
    for name in ("config.json", "training_args.bin", "last.ckpt", "summary.json"):
        (folder / name).write_text("{}")
    assert [path.name for path in files_of("mine")] == ["config.json", "last.ckpt", "training_args.bin"]
    (folder / "model.safetensors").write_text("")
    assert [path.name for path in files_of("mine")] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("changed", "before"),
    [
        ({}, "the generator"),
        ({"sft": 0.5}, "the generator"),
        ({"sft": 0.5, "finetune": {"reference": None}}, "the generator after SFT"),
        ({"sft": 0.5, "finetune": {"sync_ref_model": True}}, "the generator after SFT"),
        ({"finetune": {"reference": "runs/other"}}, "the reference, runs/other"),
        ({"sft": 0.5, "finetune": {"reference": "runs/other"}}, "the reference, runs/other"),
    ],
)
def test_the_report_says_what_before_is(changed, before):
    assert _before(Design("table.csv", **changed)) == before
