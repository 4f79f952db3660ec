"""Checkpoints that are not what they claim are refused, and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sepo.models import load, save_published
from tests.models import published


def test_a_class_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"condition=4: the classes of this network are 0 to 2, and 3 stands for none"):
        load(published.write("udlm_cfg", tmp_path / "cfg"), condition=4)
    with pytest.raises(ValueError, match=r"condition=1: the classes of this network are none"):
        load(published.write("udlm", tmp_path / "udlm"), condition=1)
    with pytest.raises(ValueError, match=r"condition=1: LlamaConfig is of a network without classes"):
        load(published.write("llada", tmp_path / "llada"), condition=1)


def test_a_layout_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layout='sed'.*sedd"):
        load(published.write("sedd", tmp_path / "sedd"), layout="sed")


def rewritten(folder: Path, **entries: Any) -> Path:
    """config.json with these entries changed."""
    described = json.loads((folder / "config.json").read_text()) | entries
    (folder / "config.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(
    ("family", "head"), [("llada", "model.transformer.ff_out.weight"), ("dream", "lm_head.weight")]
)
def test_a_head_that_is_missing_is_not_made_up(family: str, head: str, tmp_path: Path) -> None:
    folder = published.write(family, tmp_path / family)
    tensors = load_file(folder / "model.safetensors")
    del tensors[head]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 tensors are missing \(lm_head.weight\)"):
        load(folder)


@pytest.mark.parametrize("entry", [{"activation_type": "gelu"}, {"rope": False}, {"weight_tying": True}], ids=str)
def test_a_llada_that_is_no_llama_is_refused(entry: dict[str, Any], tmp_path: Path) -> None:
    folder = rewritten(published.write("llada", tmp_path / "llada"), **entry)
    with pytest.raises(ValueError, match=f"{next(iter(entry))}=.*LLaDA is a Llama only with"):
        load(folder)


def test_a_layout_that_would_be_read_wrongly_is_not_written(tmp_path: Path) -> None:
    policy = load(published.write("mdlm", tmp_path / "mdlm"))
    for layout in ("sedd", "udlm"):
        with pytest.raises(ValueError, match=rf"layout='{layout}' says .*would be read wrongly"):
            save_published(policy, tmp_path / "other", layout)
    assert not (tmp_path / "other").exists()


def test_a_layout_that_does_not_fit_names_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not of the layout sedd: it lacks 'vocab_embed.embedding'"):
        load(published.write("mdlm", tmp_path / "mdlm"), layout="sedd")


def test_an_index_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    folder = published.write("sedd", tmp_path / "sedd")
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"vocab_embed.embedding": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"'../outside.safetensors', which is no file of its own folder"):
        load(folder)


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        load(published.write("dream", tmp_path / "dream"), trust_remote_code=True)
