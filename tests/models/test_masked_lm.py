"""Stock masked language models as denoisers: the hook that gathers before the head, padding, ESM's token dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    EsmConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from sepo.diffusion.process import Absorbing
from sepo.models import as_denoiser, denoiser_for, load, masked_lm, save_pretrained
from sepo.models.family import innermost
from tests.models.toys import LENGTH, MASK, SIZE, half_masked, shaken

SHAPE: dict[str, Any] = {
    "vocab_size": SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "pad_token_id": 0,
}
ESM = EsmConfig(**SHAPE, mask_token_id=MASK, token_dropout=True, position_embedding_type="rotary")
CONFIGS: list[PretrainedConfig] = [
    BertConfig(**SHAPE),
    RobertaConfig(**SHAPE),
    ESM,
    DistilBertConfig(vocab_size=SIZE, dim=16, n_layers=1, n_heads=2, hidden_dim=16),
    ModernBertConfig(**SHAPE, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
    ElectraConfig(**SHAPE, embedding_size=8),
    DebertaV2Config(**SHAPE),
    AlbertConfig(**SHAPE, embedding_size=8),
]
T = torch.full((3,), 0.5)
SITES = torch.tensor([[0, 5], [11, 5], [3, 3]])


def build(config: PretrainedConfig) -> PreTrainedModel:
    return shaken(lambda: AutoModelForMaskedLM.from_config(config))


def tokenizer(mask: str | None = "[MASK]") -> PreTrainedTokenizerFast:
    words = {"[PAD]": 0, "[CLS]": 1, "a": 2, "b": 3, "c": 4, "d": 5, "[MASK]": 6}
    core = Tokenizer(WordLevel(words, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]", mask_token=mask)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.model_type))
@torch.no_grad()
def test_the_stock_head_sees_only_the_sites_that_are_asked_for(config: PretrainedConfig) -> None:
    network = build(config)
    seen: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Linear) and module.out_features == SIZE:
            module.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    xt = half_masked().index_fill(1, torch.tensor([0]), 1)
    everywhere = masked_lm.call(network, xt, T)
    there = masked_lm.call(network, xt, T, sites=SITES)
    assert seen == [(3, LENGTH, SIZE), (3, 2, SIZE)]
    assert torch.allclose(there, everywhere[torch.arange(3)[:, None], SITES], atol=1e-5)
    assert not innermost(network).base_model._forward_hooks, "the hook is taken away again"


@torch.no_grad()
def test_an_encoder_that_returns_tuples_has_its_logits_gathered_instead() -> None:
    network = build(BertConfig(**SHAPE))

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, **inputs):
            encoded = self.inner.bert(**inputs, return_dict=False)[0]
            return type("Output", (), {"logits": self.inner.cls(encoded)})()

    expected = masked_lm.call(network, half_masked(), T)[torch.arange(3)[:, None], SITES]
    assert torch.allclose(masked_lm.call(Plain(), half_masked(), T, sites=SITES), expected, atol=1e-5)


@torch.no_grad()
def test_the_hook_is_taken_away_when_the_network_fails() -> None:
    network = build(BertConfig(**SHAPE))
    with pytest.raises(IndexError):
        masked_lm.call(network, half_masked() + 100, T, sites=SITES)
    assert not network.base_model._forward_hooks


@torch.no_grad()
def test_token_dropout_counts_the_masks_among_the_tokens_that_are_attended() -> None:
    network = build(ESM)
    xt = half_masked()[:1]
    xt[0, 0], xt[0, 8:] = 1, 0
    attend = (torch.arange(LENGTH) < 8)[None]
    padded = masked_lm.call(network, xt, T[:1], attend)[:, :8]
    assert torch.allclose(padded, masked_lm.call(network, xt[:, :8], T[:1]), atol=1e-5)
    embedded = network.base_model.embeddings(xt, attention_mask=attend.long())
    words = network.base_model.embeddings.word_embeddings(xt)
    scale = 0.88 / (1 - (xt == MASK).sum() / 8)
    assert torch.allclose(embedded[0, 0], words[0, 0] * scale, atol=1e-5)
    assert embedded[xt == MASK].abs().sum() == 0


def test_token_dropout_over_masks_alone_is_refused_instead_of_giving_nan() -> None:
    network = build(ESM)
    with pytest.raises(ValueError, match=r"row 2 .*nothing but masks.*<cls> and <eos>"):
        masked_lm.call(network, half_masked(), T)
    attend = torch.ones(1, LENGTH, dtype=torch.bool)
    xt = torch.full((1, LENGTH), MASK)
    xt[0, 0], attend[0, 0] = 1, False
    with pytest.raises(ValueError, match="row 0"):
        masked_lm.call(network, xt, T[:1], attend)
    assert masked_lm.call(network, xt, T[:1]).isfinite().all()


def test_the_tokenizer_names_the_mask_and_its_other_special_tokens_are_banned() -> None:
    lens = denoiser_for(build(BertConfig(**SHAPE)), tokenizer())
    assert lens.process == Absorbing(SIZE, mask=MASK)
    assert lens.banned == (0, 1)
    assert lens.length is None
    assert lens.log_posterior(half_masked(), T)[2, :, [0, 1, MASK]].exp().sum() == 0


def test_without_a_tokenizer_the_configuration_names_the_mask() -> None:
    assert denoiser_for(build(ESM)).process == Absorbing(SIZE, mask=MASK)


def test_without_a_mask_there_is_no_denoiser() -> None:
    with pytest.raises(ValueError, match=r"No mask id is known for BertForMaskedLM.*as_denoiser"):
        denoiser_for(build(BertConfig(**SHAPE)))
    with pytest.raises(ValueError, match="No mask id is known"):
        denoiser_for(build(BertConfig(**SHAPE)), tokenizer(mask=None))


def test_a_mask_that_the_network_does_not_embed_is_refused() -> None:
    smaller = build(BertConfig(**(SHAPE | {"vocab_size": 5})))
    with pytest.raises(ValueError, match=r"mask id 6 is outside.*vocab_size=5.*resize_token_embeddings"):
        denoiser_for(smaller, tokenizer())


@torch.no_grad()
def test_a_stock_checkpoint_loads_without_a_card(tmp_path: Path) -> None:
    network = build(BertConfig(**SHAPE))
    network.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    lens = load(tmp_path)
    assert lens.process == Absorbing(SIZE, mask=MASK)
    assert lens.banned == (0, 1)
    assert torch.equal(masked_lm.call(lens.network, half_masked(), T), masked_lm.call(network, half_masked(), T))
    save_pretrained(lens, tmp_path / "mine")
    assert load(tmp_path / "mine").banned == (0, 1), "the card replaces the tokenizer"


def test_a_stock_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    build(BertConfig(**SHAPE)).base_model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model_type 'bert' and architectures \['BertModel'\].*ForMaskedLM"):
        load(tmp_path)
    network = build(BertConfig(**SHAPE))
    weights = {name: weight for name, weight in network.state_dict().items() if "transform" not in name}
    network.save_pretrained(tmp_path, state_dict=weights)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"do not fit BertForMaskedLM.*missing keys.*transform"):
        load(tmp_path)


def test_a_length_beyond_the_position_table_is_refused() -> None:
    with pytest.raises(ValueError, match="length=600 does not fit the network, which takes 1 to 512"):
        as_denoiser(build(BertConfig(**SHAPE)), Absorbing(SIZE, mask=MASK), length=600)
