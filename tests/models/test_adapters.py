"""PEFT adapters: saved alone, loaded on their base."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PretrainedConfig

from sepo.diffusion.denoiser import Denoiser
from sepo.models import FAMILIES, load, save_pretrained, write_metadata
from sepo.models.adapters import usual_layers
from tests.models.test_masked_lm import CONFIGS, build
from tests.models.toys import NETWORKS, denoiser, half_masked

peft = pytest.importorskip("peft")
T = torch.full((3,), 0.5)


def adapted(lens: Denoiser, family: str = "transformer", **options) -> Denoiser:
    """With adapters that are not zero any more."""
    targets = list(FAMILIES[family].lora) or None  # PEFT knows those of stock networks
    network = peft.get_peft_model(lens.network, peft.LoraConfig(r=2, target_modules=targets, **options))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=generator)
    return lens.on(network)


def saved_base(folder: Path) -> Denoiser:
    save_pretrained(denoiser("transformer"), folder)
    return load(folder)


@torch.no_grad()
def test_adapters_on_a_saved_base_are_saved_alone_and_find_it(tmp_path: Path) -> None:
    trained = adapted(saved_base(tmp_path / "base"))
    save_pretrained(trained, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    assert not (tmp_path / "adapter" / "base").exists()
    loaded = load(tmp_path / "adapter")
    assert torch.equal(loaded.logits(half_masked(), T), trained.logits(half_masked(), T))
    assert not torch.equal(loaded.logits(half_masked(), T), denoiser("transformer").logits(half_masked(), T))
    assert loaded.process == trained.process
    assert not loaded.network.training


@pytest.mark.parametrize("family", NETWORKS)
@torch.no_grad()
def test_adapters_on_a_base_that_was_never_saved_take_it_along_wherever_they_go(family: str, tmp_path: Path) -> None:
    before = denoiser(family).logits(half_masked(), T)
    trained = adapted(denoiser(family), family)
    save_pretrained(trained, tmp_path / "first")
    shutil.move(tmp_path / "first", tmp_path / "moved")
    loaded = load(tmp_path / "moved")
    assert torch.equal(loaded.logits(half_masked(), T), trained.logits(half_masked(), T))
    save_pretrained(loaded, tmp_path / "again")
    shutil.rmtree(tmp_path / "moved")
    again = load(tmp_path / "again")
    assert torch.equal(again.logits(half_masked(), T), trained.logits(half_masked(), T))
    assert torch.equal(load(tmp_path / "again" / "base").logits(half_masked(), T), before)


@torch.no_grad()
def test_layers_that_are_trained_in_full_travel_with_the_adapters(tmp_path: Path) -> None:
    before = denoiser("transformer").logits(half_masked(), T)
    trained = adapted(denoiser("transformer"), modules_to_save=["head"])
    for name, weight in trained.network.named_parameters():
        if "modules_to_save" in name:
            weight += 1.0
    save_pretrained(trained, tmp_path)
    assert torch.equal(load(tmp_path).logits(half_masked(), T), trained.logits(half_masked(), T))
    assert torch.equal(load(tmp_path / "base").logits(half_masked(), T), before)


def test_a_folder_that_peft_itself_wrote_loads_on_the_base_that_it_names(tmp_path: Path) -> None:
    trained = adapted(saved_base(tmp_path / "base"))
    trained.network.save_pretrained(tmp_path / "adapter")  # type: ignore[operator]
    assert not (tmp_path / "adapter" / "sepo.json").exists()
    assert torch.equal(load(tmp_path / "adapter").logits(half_masked(), T), trained.logits(half_masked(), T))


def test_the_card_beside_what_a_trainer_saved_makes_it_loadable(tmp_path: Path) -> None:
    trained = adapted(denoiser("transformer"))
    trained.network.save_pretrained(tmp_path)  # type: ignore[operator]
    write_metadata(trained, tmp_path)
    assert torch.equal(load(tmp_path).logits(half_masked(), T), trained.logits(half_masked(), T))


def test_loaded_adapters_train_on_and_the_base_stays_frozen(tmp_path: Path) -> None:
    save_pretrained(adapted(denoiser("transformer")), tmp_path)
    loaded = load(tmp_path)
    assert {"lora_" in name for name, weight in loaded.network.named_parameters() if weight.requires_grad} == {True}


LAYERS = {
    "esm": ["query", "value"],
    "albert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "modernbert": ["Wqkv"],
    **dict.fromkeys(("bert", "roberta", "electra", "deberta-v2")),
}
"""None: PEFT knows them."""


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.model_type))
def test_every_masked_language_model_has_layers_for_an_adapter(config: PretrainedConfig) -> None:
    network = build(config)
    layers = usual_layers(network, FAMILIES["masked_lm"].lora)
    assert layers == LAYERS[config.model_type]
    trained = [
        name
        for name, weight in peft.get_peft_model(network, peft.LoraConfig(r=2, target_modules=layers)).named_parameters()
        if weight.requires_grad
    ]
    assert trained and all("lora_" in name and ("attention" in name or "attn" in name) for name in trained)


def test_layers_are_those_of_the_family_or_all_where_there_is_no_attention() -> None:
    grid = NETWORKS["grid"]()
    assert usual_layers(grid, "a|b") == "a|b" and usual_layers(grid, ("a", "b")) == ["a", "b"]
    assert usual_layers(NETWORKS["dna_cnn"]()) == "all-linear"


def test_an_adapter_of_another_network_is_refused(tmp_path: Path) -> None:
    save_pretrained(adapted(denoiser("transformer")), tmp_path / "adapter")
    save_pretrained(denoiser("dit"), tmp_path / "dit")
    card = tmp_path / "adapter" / "sepo.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"base": str(tmp_path / "dit")}))
    with pytest.raises(ValueError, match=r"does not fit DiT"):
        load(tmp_path / "adapter")


def test_an_adapter_with_missing_tensors_is_refused(tmp_path: Path) -> None:
    save_pretrained(adapted(denoiser("transformer")), tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"1 tensors are missing \(base_model.model.layers.0.out.lora_A.weight\)"):
        load(tmp_path)


def test_an_adapter_whose_base_is_gone_says_which(tmp_path: Path) -> None:
    save_pretrained(adapted(saved_base(tmp_path / "base")), tmp_path / "adapter")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ValueError, match=r"base' is neither a folder here nor a model"):
        load(tmp_path / "adapter")


def test_without_peft_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pretrained(adapted(denoiser("transformer")), tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install peft \(extra `peft`\)"):
        load(tmp_path)
