"""The start of a diffusion model from an autoregressive one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.process import Absorbing
from sepo.models import as_denoiser, convert, load, save_pretrained
from sepo.ops import Chance
from sepo.samplers import FirstHitting, roll
from tests.models.toys import masked_lm

WORDS = ["<end>", "<pad>", "the", "cat", "dog", "sat", "ran", "far"]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>")


def network(kind: str, vocab: int = len(WORDS)) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, **SMALL)).eval()
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocab, num_key_value_heads=2, head_dim=8, **SMALL)).eval()


each_kind = pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
XT = torch.tensor([[2, 8, 5, 8, 3, 0]])
HALF = torch.tensor([0.5])


@each_kind
@torch.no_grad()
def test_it_looks_ahead_and_knows_a_mask(kind: str) -> None:
    words = tokenizer()
    policy = convert(network(kind), words)
    assert words.mask_token_id == len(WORDS) and policy.process == Absorbing(len(WORDS) + 1, mask=len(WORDS))
    other = XT.clone()
    other[0, 5] = 6
    changed = (policy.raw_logits(XT, HALF) - policy.raw_logits(other, HALF))[0, 1]
    assert float(changed.abs().max()) > 1e-5
    assert policy.banned == (1,)  # padding; the end of a text can be drawn


@each_kind
@torch.no_grad()
def test_without_the_shift_the_output_speaks_of_its_own_site(kind: str) -> None:
    shifted = convert(network(kind), tokenizer()).raw_logits(XT, HALF)
    plain = convert(network(kind), tokenizer(), shifted=False).raw_logits(XT, HALF)
    torch.testing.assert_close(shifted[:, 1:], plain[:, :-1])
    torch.testing.assert_close(shifted[:, 0], plain[:, 0])


@each_kind
@torch.no_grad()
def test_it_is_saved_as_a_stock_model_that_transformers_reads_with_the_same_numbers(kind: str, tmp_path: Path) -> None:
    policy = convert(network(kind), tokenizer())
    save_pretrained(policy, tmp_path)
    assert torch.equal(load(tmp_path).logits(XT, HALF), policy.logits(XT, HALF))
    stock = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    raw = stock(input_ids=XT).logits
    torch.testing.assert_close(policy.raw_logits(XT, HALF)[:, 1:], raw[:, :-1].float(), atol=1e-5, rtol=1e-5)


def test_a_folder_is_converted_by_load_and_refused_without(tmp_path: Path) -> None:
    network("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM, which looks back only.*convert=True"):
        load(tmp_path)
    policy = load(tmp_path, convert=True)
    rollout = roll(FirstHitting(), policy, Canvas.blank(3, 5), Chance.of(0, 3))
    assert int(rollout.x0.max()) < len(WORDS)


def test_spare_rows_of_the_embedding_are_used_for_the_mask_and_never_drawn(tmp_path: Path) -> None:
    policy = convert(network("llama", vocab=12), tokenizer())
    assert policy.process == Absorbing(12, mask=8) and policy.banned == (1, 9, 10, 11)


def test_a_network_that_looks_back_only_is_no_denoiser() -> None:
    with pytest.raises(ValueError, match=r"looks back only.*convert"):
        as_denoiser(network("llama"), Absorbing(len(WORDS), mask=1))


def test_what_is_no_causal_language_model_is_refused() -> None:
    with pytest.raises(ValueError, match="BertForMaskedLM is no causal language model"):
        convert(masked_lm(), tokenizer())


def test_a_network_that_cannot_look_ahead_is_refused() -> None:
    sizes = GPTNeoConfig(
        vocab_size=len(WORDS), hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global"], 2]]
    )
    with pytest.raises(ValueError, match="GPTNeoForCausalLM still looks back only"):
        convert(GPTNeoForCausalLM(sizes).eval(), tokenizer())


def test_a_folder_with_holes_is_not_converted(tmp_path: Path) -> None:
    network("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"missing keys: model.layers.0.mlp.up_proj.weight"):
        load(tmp_path, convert=True)
