"""The commands on text: a stock masked language model with its tokenizer beside it, prompts from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from sepo.cli import main
from sepo.models.language_model import both_ways
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


def test_a_cache_of_keys_and_values_computes_fewer_sites(capsys):
    """A Llama of one layer, of which the cache is exact: the same texts from 6, 2, 6 and 2 of 6 sites."""
    words = toys.tokenizer()
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), max_position_embeddings=16, **shape))
    both_ways(llama).save_pretrained("llama")
    words.save_pretrained("llama")
    asked = ["sample", "llama", "--prompts", "the cat", "--num", "3", "--max_completion_length", "4"]
    asked += ["--sampler", "confidence", "--sampler_kwargs.block_length", "2"]
    assert main(asked) == 0
    exact = capsys.readouterr()
    assert "12 network evaluations (4 per sample)" in exact.err
    assert main([*asked, "--sampler_kwargs.cache", "block"]) == 0
    cached = capsys.readouterr()
    assert cached.out == exact.out
    assert "12 network evaluations (4 per sample, at 67% of the sites)" in cached.err
    rows = write("rows.jsonl", [{"prompt": "the cat"}])
    judged = ["evaluate", "llama", "--reward", f"{TOY}:letters", "--dataset", rows, "--num", "2", "--bound_draws", "0"]
    judged += ["--max_completion_length", "4", *asked[8:], "--sampler_kwargs.cache", "prefix"]
    assert main(judged) == 0
    assert json.loads(capsys.readouterr().out)["share_of_sites"] == pytest.approx(18 / 24)
