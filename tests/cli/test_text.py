"""The commands on text: a stock masked language model with its tokenizer beside it, prompts from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sepo.cli import main
from sepo.runs import RunFolder, read_metrics
from tests.cli.conftest import SMALL, TOY
from tests.training import toys


@pytest.fixture
def bert() -> str:
    words = toys.tokenizer()
    toys.bert(words).save_pretrained("bert")
    words.save_pretrained("bert")
    return "bert"


def write(name: str, rows: list[dict]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def test_text_is_fine_tuned_on_prompts_of_a_file_and_sampled_from_a_prompt(bert, capsys):
    prompts = write("prompts.jsonl", [{"prompt": "the cat"}, {"prompt": "a dog sat"}])
    words = ["--dataset", prompts, "--max_completion_length", "4", "--per_device_train_batch_size", "8"]
    reward = ["--reward", f"{TOY}:letters"]
    assert main(["finetune", "--model", bert, *reward, *words, *SMALL, "--output_dir", "out"]) == 0
    assert "rewards/letters/mean" in read_metrics(RunFolder(Path("out")))[0]
    assert "Completions of step 2" in Path("out/report.html").read_text()
    capsys.readouterr()
    assert main(["sample", "out", "--prompts", "the dog", "--num", "3", "--max_completion_length", "4"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3 and "12 network evaluations (4 per sample)" in shown.err


def test_masks_in_a_prompt_are_what_is_filled(bert):
    assert main(["sample", bert, "--prompts", "the [MASK] sat [MASK]", "--num", "2", "--output", "out.jsonl"]) == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [len(row["completion_ids"]) for row in rows] == [2, 2]
    assert all(row["completion"].split()[0] == "the" and row["completion"].split()[2] == "sat" for row in rows)


def test_text_is_pretrained_further_and_its_bound_evaluated(bert, capsys):
    texts = write("texts.jsonl", [{"text": "the cat sat on a mat"}, {"text": "a red dog ran"}])
    assert main(["pretrain", "--model", bert, "--dataset", texts, *SMALL, "--output_dir", "out"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "out", "--heldout", texts, "--bound_draws", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["held_out_bound"]["tokens"] >= 10


def test_a_prompt_that_is_too_long_is_told(bert, capsys):
    words = ["--prompts", "the cat sat on a mat", "--max_completion_length", "40"]
    assert main(["sample", bert, *words]) == 1
    shown = capsys.readouterr().err
    assert "max_completion_length=40" in shown and "Traceback" not in shown


def test_a_dataset_without_prompts_is_told(bert, capsys):
    rows = write("rows.jsonl", [{"question": "the cat"}])
    assert main(["finetune", "--model", bert, "--reward", f"{TOY}:letters", "--dataset", rows, *SMALL]) == 1
    assert "columns ['question']; they need 'prompt'" in capsys.readouterr().err
