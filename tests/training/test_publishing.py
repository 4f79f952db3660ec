"""Whose README.md it is, what a model came from, and what goes to the hub."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects
from transformers import LlamaConfig, LlamaForCausalLM

from sepo import load
from sepo.models import ancestry, convert, innermost, merged, save_pretrained
from sepo.models.ancestry import base_named
from sepo.models.model_card import MARKER
from tests.training.toys import policy, pretrainer, raised, same, text_policy, tokenizer, trainer, weights


def second(completions, **columns):
    return [0.0] * len(completions)


def lora(rank: int = 2):
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(target_modules=["qkv", "out"], r=rank)


def card(folder: Path) -> ModelCard:
    return ModelCard.load(folder / "README.md")


def rows(text: str) -> dict[str, list[str]]:
    """The cells behind the first one of every row of every table."""
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]
    return {first.strip("`"): others for first, *others in cells}


def named(model: Any, name: str) -> Any:
    """As if it had been loaded from there."""
    innermost(model.network).name_or_path = name
    return model


@pytest.mark.parametrize("adapters", [False, True])
def test_a_readme_of_the_user_is_kept(tmp_path, adapters):
    (tmp_path / "README.md").write_text("# Mine\n")
    made = trainer(tmp_path, **({"peft_config": lora()} if adapters else {}))
    made.save_model()
    made.create_model_card(license="mit")
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_a_readme_of_ours_is_written_anew_and_remembers_what_it_was_told(tmp_path):
    made = trainer(tmp_path, max_steps=1)
    made.create_model_card(
        *("en", "mit", "dna", "Enhancers", "someone/dna", "fill-mask"), dataset_tags="some/data", dataset="Data"
    )
    made.train()
    made.save_model()
    told = card(tmp_path)
    assert MARKER in told.text and "# Enhancers" in told.text and "Data: Data." in told.text
    assert (told.data.language, told.data.license, told.data.pipeline_tag) == ("en", "mit", "fill-mask")
    assert (told.data.base_model, told.data.datasets) == ("someone/dna", "some/data") and "dna" in told.data.tags
    assert "reward" in rows(told.text)


def test_adapters_name_their_base_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = trainer(tmp_path, named(policy(), "someone/dna"), peft_config=lora())
    made.save_model()
    told = card(tmp_path)
    assert (told.data.base_model, told.data["base_model_relation"]) == ("someone/dna", "adapter")
    assert told.data.library_name == "sepo" and "https://huggingface.co/someone/dna" in told.text
    assert rows(told.text)["weights"] == ["PEFT adapters (LORA, r=2); without the base model"]


def test_adapters_say_that_they_need_a_base_in_a_folder(tmp_path):
    save_pretrained(policy(), tmp_path / "ancestor")
    trainer(tmp_path / "run", load(tmp_path / "ancestor"), peft_config=lora()).save_model()
    told = card(tmp_path / "run")
    assert told.data.base_model is None and "need the checkpoint `ancestor`" in told.text


def test_a_base_without_a_name_travels_with_its_adapters(tmp_path):
    trainer(tmp_path, peft_config=lora()).save_model()
    assert rows(card(tmp_path).text)["weights"] == ["PEFT adapters (LORA, r=2); the base model is in the folder `base`"]


def causal(name: str = "") -> LlamaForCausalLM:
    """A tiny decoder that looks back, as if it had been loaded from there."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer()), **sizes))
    network.config.name_or_path = name
    return network


def test_a_converted_model_names_the_one_that_it_was_made_from(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = replace(convert(causal("someone/causal"), tokenizer()), length=6)
    trainer(tmp_path, made, second).save_model()
    told = card(tmp_path)
    assert (told.data.base_model, told.data["base_model_relation"]) == ("someone/causal", "finetune")
    assert "https://huggingface.co/someone/causal" in told.text


def test_a_folder_that_was_converted_is_named_and_so_is_the_base_of_merged_adapters(tmp_path):
    causal().save_pretrained(tmp_path / "causal")
    tokenizer().save_pretrained(tmp_path / "causal")
    converted = load(tmp_path / "causal", convert=True)
    trainer(tmp_path / "run", replace(converted, length=6), second).save_model()
    assert rows(card(tmp_path / "run").text)["base model"] == ["the checkpoint `causal`"]
    save_pretrained(policy(), tmp_path / "ancestor")
    trainer(tmp_path / "adapted", load(tmp_path / "ancestor"), peft_config=lora()).save_model()
    trainer(tmp_path / "merged", merged(load(tmp_path / "adapted"))).save_model()
    assert rows(card(tmp_path / "merged").text)["base model"] == ["the checkpoint `ancestor`"]


def test_the_license_is_that_of_the_card_of_the_base(tmp_path):
    save_pretrained(policy(), tmp_path / "ancestor")
    header = "---\nlicense: other\nlicense_name: mine\ntags: [a]\n---\n# Base\n"
    (tmp_path / "ancestor" / "README.md").write_text(header)
    made = trainer(tmp_path / "run", load(tmp_path / "ancestor"))
    made.save_model()
    assert (card(tmp_path / "run").data.license, card(tmp_path / "run").data.license_name) == ("other", "mine")
    made.create_model_card(license="mit")
    assert (card(tmp_path / "run").data.license, card(tmp_path / "run").data.license_name) == ("mit", None)


@pytest.mark.parametrize("text", ["", "no header", "---\n: [\n---\n", "---\n- a\n---\n"])
def test_a_card_that_says_no_license_or_cannot_be_read_gives_none(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert base_named(str(tmp_path)).license == {}


def test_the_card_of_a_base_on_the_hub_is_fetched_only_where_something_is_pushed(monkeypatch):
    asked = []

    def fetched(name, **options):
        asked.append(name)
        return ModelCard("---\nlicense: mit\n---\n")

    monkeypatch.setattr(ancestry, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(ancestry.ModelCard, "load", fetched)
    assert base_named("someone/dna").license == {} and asked == []
    assert base_named("someone/dna", online=True).license == {"license": "mit"} and asked == ["someone/dna"]


class Hub:
    """What would be uploaded, copied aside."""

    def __init__(self, monkeypatch: Any, root: Path) -> None:
        self.root, self.commits, self.created = root, [], []
        monkeypatch.setattr(HfApi, "create_repo", self.create_repo)
        monkeypatch.setattr(HfApi, "upload_folder", self.upload_folder)

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        self.created.append((repo_id, options["private"], options["token"]))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def upload_folder(self, *, repo_id: str, folder_path: Any, commit_message: str, **options: Any) -> Any:
        paths = [path.relative_to(folder_path) for path in sorted(Path(folder_path).rglob("*")) if path.is_file()]
        ignored = options.get("ignore_patterns")
        names = list(filter_repo_objects([path.as_posix() for path in paths], ignore_patterns=ignored))
        inside = options.get("path_in_repo") or "."
        for name in names:
            place = self.root / str(len(self.commits)) / inside / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder_path) / name, place)
        self.commits.append((repo_id, commit_message, {name for name in names if "/" not in name}))
        done: Future = Future()
        done.set_result(None)
        return done if options.get("run_as_future") else "pushed"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    return Hub(monkeypatch, tmp_path / "hub")


def test_push_to_hub_uploads_what_sepo_load_opens(hub, tmp_path):
    words = tokenizer()
    made = trainer(tmp_path / "mine", text_policy(words, 6), second, processing_class=words, max_steps=1)
    made.train()
    assert made.push_to_hub(tags="dna", license="mit") == "pushed"
    assert hub.created == [("mine", None, None)]
    [(repo, message, names)] = hub.commits
    assert (repo, message) == ("me/mine", "End of training")
    assert {"README.md", "sepo.json", "config.json", "model.safetensors", "tokenizer.json"} <= names
    opened = load(hub.root / "0")
    assert same(weights(opened.network), weights(made.model)) and opened.process == made.policy.process
    told = card(hub.root / "0")
    assert "# mine" in told.text and 'sepo.load("me/mine")' in told.text and "$ sepo sample me/mine" in told.text
    assert told.data.license == "mit" and "dna" in told.data.tags and str(tmp_path) not in told.content


def test_push_to_hub_goes_where_it_was_told(hub, tmp_path):
    made = trainer(tmp_path, hub_model_id="lab/dna", hub_private_repo=True)
    made.push_to_hub("Threes", token="t", revision="dev")
    assert hub.created == [("lab/dna", True, "t")] and hub.commits[0][:2] == ("lab/dna", "Threes")


def test_a_pretrained_model_is_pushed_with_its_averaged_weights(hub, tmp_path):
    made = pretrainer(tmp_path / "mine", max_steps=2)
    made.train()
    made.push_to_hub()
    assert same(weights(load(hub.root / "0").network), weights(made.average.network))
    assert "score entropy" in card(hub.root / "0").text


def test_saves_push_the_whole_model_and_its_card(hub, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "push_to_hub": True, "hub_model_id": "lab/dna"}
    made = trainer(tmp_path / "mine", max_steps=2, use_critic=True, **saving)
    made.train()
    [(repo, message, names)] = hub.commits
    assert (repo, message) == ("lab/dna", "Training in progress, step 2")
    assert {"README.md", "sepo.json", "config.json", "model.safetensors", "critic.safetensors"} <= names
    assert not any("checkpoint" in name for name in names)
    assert same(weights(load(hub.root / "0").network), weights(innermost(made.policy.network)))
    assert 'sepo.load("lab/dna")' in card(hub.root / "0").text and "reward" in rows(card(hub.root / "0").text)


def test_adapters_are_pushed_at_saves_with_a_base_that_has_no_other_place(hub, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 1, "push_to_hub": True, "hub_model_id": "lab/dna"}
    made = trainer(tmp_path / "mine", max_steps=1, peft_config=lora(), **saving)
    made.train()
    assert same(weights(load(hub.root / "0").network), weights(made.model))


def test_pushing_adapters_on_a_folder_of_this_machine_warns(hub, tmp_path, monkeypatch):
    warned: list[str] = []
    monkeypatch.setattr("sepo.training.publishing.logger.warning", warned.append)
    save_pretrained(policy(), tmp_path / "ancestor")
    trainer(tmp_path / "run", load(tmp_path / "ancestor"), peft_config=lora()).push_to_hub()
    assert len(warned) == 1 and "'ancestor'" in warned[0]


def test_a_missing_token_is_told_by_hugging_face_itself(tmp_path, monkeypatch):
    def create_repo(*args: Any, **options: Any) -> None:
        raise LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    assert raised(LocalTokenNotFoundError, trainer(tmp_path).push_to_hub) == "Token is required"
