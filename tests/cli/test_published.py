"""The commands on checkpoints that others published: sampled, fine-tuned with LoRA, merged, and written back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import EsmTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sepo import load
from sepo.cli import main
from tests.cli.conftest import SMALL, TOY
from tests.models import published

WORDS = [*"ABCDEFGHIJ", "<end>", "<bos>"]
PROTEIN = [*["<cls>", "<pad>", "<eos>", "<unk>"], *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


def words(count: int = len(WORDS)) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS[:count])}, unk_token="A"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", bos_token="<bos>")


@pytest.fixture
def llada() -> str:
    published.write("llada", Path("llada"))
    words().save_pretrained("llada")
    return "llada"


def test_llada_is_sampled_by_confidence_block_by_block(llada, capsys):
    rule = ["--sampler", "confidence", "--sampler_kwargs.rule", "low_confidence", "--sampler_kwargs.block_length", "4"]
    assert main(["sample", llada, "--prompts", "A B", "--num", "3", "--max_completion_length", "8", *rule]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3 and "(8 per sample)" in shown.err


def test_llada_is_fine_tuned_with_lora_merged_and_written_back(llada, capsys):
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("A B", "C D E")))
    task = ["--reward", f"{TOY}:letters", "--dataset", "prompts.jsonl", "--max_completion_length", "4"]
    how = ["--peft.r", "2", "--learning_rate", "0.1", "--per_device_train_batch_size", "8", *SMALL]
    assert main(["finetune", "--model", llada, *task, *how, "--output_dir", "tuned"]) == 0
    assert Path("tuned/adapter_model.safetensors").is_file()
    assert main(["export", "tuned", "--output", "merged"]) == 0
    assert main(["export", "tuned", "--output", "back", "--layout", "llada"]) == 0
    there, back = (load_file(f"{folder}/model.safetensors") for folder in (llada, "back"))
    assert there.keys() == back.keys()
    changed = {name for name in there if not torch.equal(there[name], back[name])}
    assert changed and all("q_proj" in name or "v_proj" in name for name in changed)
    xt, half = torch.tensor([[0, 1, 12, 12, 12]]), torch.tensor([0.5])
    with torch.no_grad():
        tuned = load("tuned").logits(xt, half)
        for folder in ("merged", "back"):
            torch.testing.assert_close(load(folder).logits(xt, half)[..., :11], tuned[..., :11], atol=1e-5, rtol=1e-5)


def test_a_sampler_without_a_density_is_refused_in_training(llada, capsys):
    Path("prompts.jsonl").write_text(json.dumps({"prompt": "A B"}) + "\n")
    task = ["--reward", f"{TOY}:letters", "--dataset", "prompts.jsonl", "--max_completion_length", "4"]
    rule = ["--sampler", "confidence", "--sampler_kwargs.rule", "low_confidence"]
    assert main(["finetune", "--model", llada, *task, *rule, *SMALL]) == 1
    assert "low_confidence" in capsys.readouterr().err


def test_a_protein_is_framed_and_made_of_amino_acids(capsys):
    published.write("dplm", Path("dplm"))
    Path("vocab.txt").write_text("\n".join(PROTEIN))
    EsmTokenizer("vocab.txt").save_pretrained("dplm")
    assert main(["sample", "dplm", "--num", "4", "--length", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) for line in lines] == [12] * 4 and set("".join(lines)) <= set("LAGVSERTIDPKQNFYMHWC")


def test_a_protein_model_is_fine_tuned_with_an_adapter_of_the_defaults():
    published.write("dplm", Path("dplm"))
    row = {"tokens": [0, *[4] * 6, 2], "free": [False, *[True] * 6, False]}
    Path("rows.jsonl").write_text(2 * (json.dumps(row) + "\n"))
    task = ["--reward", f"{TOY}:light", "--dataset", "rows.jsonl", "--per_device_train_batch_size", "8"]
    assert main(["finetune", "--model", "dplm", "--peft", "true", *task, *SMALL, "--output_dir", "tuned"]) == 0
    names = load_file("tuned/adapter_model.safetensors")
    assert names and all(".self.query." in name or ".self.value." in name for name in names)


def test_a_lightning_file_is_told_how_to_be_opened_and_sampled(capsys):
    published.write("dna_cnn", Path())
    assert main(["sample", "pretrained.ckpt", "--num", "2"]) == 1
    assert "--model_init_kwargs.pickles true" in capsys.readouterr().err
    few = ["--length", "20", "--steps", "5", "--output", "out.npy"]
    assert main(["sample", "pretrained.ckpt", "--num", "2", "--model_init_kwargs.pickles", "true", *few]) == 0


def test_an_autoregressive_model_is_converted_trained_on_text_and_sampled(capsys):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **sizes)).save_pretrained("causal")
    words().save_pretrained("causal")
    Path("texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("A B C D", "E F G")))
    data = ["--dataset", "texts.jsonl", *SMALL, "--output_dir", "converted"]
    assert main(["pretrain", "--model", "causal", *data]) == 1
    assert "--model_init_kwargs.convert true" in capsys.readouterr().err
    assert main(["pretrain", "--model", "causal", "--model_init_kwargs.convert", "true", *data]) == 0
    assert load("converted").process.size == len(WORDS) + 1
    assert main(["sample", "converted", "--prompts", "A B", "--num", "2", "--max_completion_length", "3"]) == 0


def test_export_says_what_it_needs(llada, capsys):
    assert main(["export", llada]) == 2
    assert main(["export", llada, "--output", "x", "--layout", "mdlm"]) == 1
    assert "layout='mdlm' is of a DiT, and this network is a LlamaForCausalLM" in capsys.readouterr().err
