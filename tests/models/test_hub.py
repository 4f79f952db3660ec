"""Checkpoints: what is written, what comes back, and the message for each way in which a folder can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file

from sepo.diffusion.meaning import Posterior, Score
from sepo.diffusion.process import Absorbing, Process, Uniform
from sepo.diffusion.schedule import Cosine, Geometric
from sepo.models import as_denoiser, load, opening, save_pretrained, write_metadata
from tests.models.toys import LENGTH, MASK, SIZE, denoiser, half_masked, transformer

T = torch.full((3,), 0.5)
Damage = Callable[[Path], object]


def checkpoint(folder: Path, family: str = "transformer") -> Path:
    save_pretrained(denoiser(family), folder)
    return folder


def edit(name: str, **changes: object) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))

    return damage


def test_the_folder_is_an_ordinary_one_with_one_card(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "sepo.json"]
    assert json.loads((tmp_path / "sepo.json").read_text()) == {
        "format": 1,
        "family": "transformer",
        "process": {"kind": "absorbing", "size": SIZE, "mask": MASK},
        "schedule": {"kind": "loglinear", "eps": 0.001},
        "meaning": {"kind": "posterior"},
        "banned": [],
        "time_free": True,
        "length": LENGTH,
    }


@pytest.mark.parametrize(
    "process",
    [Absorbing(SIZE, mask=2, schedule=Cosine(1e-4)), Uniform(SIZE, schedule=Geometric()), Uniform(SIZE)],
    ids=str,
)
@pytest.mark.parametrize("meaning", [Posterior(), Score(), Score(scale_by_sigma=False)], ids=str)
def test_process_schedule_and_meaning_come_back(process: Process, meaning: Posterior | Score, tmp_path: Path) -> None:
    save_pretrained(as_denoiser(transformer(), process, meaning, banned=(1, 3), length=5), tmp_path)
    loaded = load(tmp_path)
    assert (loaded.process, loaded.meaning, loaded.banned, loaded.length) == (process, meaning, (1, 3), 5)


def test_weights_can_be_loaded_in_another_precision(tmp_path: Path) -> None:
    assert load(checkpoint(tmp_path), dtype=torch.bfloat16, device="cpu").network.dtype == torch.bfloat16


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("mine")
    (tmp_path / "checkpoint-5").mkdir()
    checkpoint(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine"
    assert (tmp_path / "checkpoint-5").is_dir()


def test_a_card_written_beside_what_a_trainer_saved_makes_it_loadable(tmp_path: Path) -> None:
    lens = denoiser("grid")
    lens.network.save_pretrained(tmp_path)  # type: ignore[operator]
    write_metadata(lens, tmp_path)
    assert torch.equal(load(tmp_path).logits(half_masked(), T), lens.logits(half_masked(), T))


def test_weights_gathered_elsewhere_are_written(tmp_path: Path) -> None:
    lens = denoiser("transformer")
    zeros = {name: torch.zeros_like(weight) for name, weight in lens.network.state_dict().items()}
    save_pretrained(lens, tmp_path, state_dict=zeros)
    assert all(weight.abs().sum() == 0 for weight in load(tmp_path).network.parameters())


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(tmp_path)
    other = denoiser("dit")

    def full(folder: Path, **options: object) -> None:
        (folder / "model.safetensors").write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(other.network, "save_pretrained", full)
    with pytest.raises(OSError, match=r"could not be written.*No space left.*unchanged"):
        save_pretrained(other, tmp_path)
    assert torch.equal(load(tmp_path).logits(half_masked(), T), denoiser("transformer").logits(half_masked(), T))


def test_one_family_after_another_in_the_same_folder(tmp_path: Path) -> None:
    checkpoint(tmp_path, "transformer")
    checkpoint(tmp_path, "dit")
    assert torch.equal(load(tmp_path).logits(half_masked(), T), denoiser("dit").logits(half_masked(), T))


def test_shards_are_read_together(tmp_path: Path) -> None:
    lens = denoiser("transformer")
    lens.network.save_pretrained(tmp_path, max_shard_size="8KB")  # type: ignore[operator]
    write_metadata(lens, tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(load(tmp_path).logits(half_masked(), T), lens.logits(half_masked(), T))
    shards[0].unlink()
    with pytest.raises(ValueError, match=rf"lacks {shards[0].name} of those in model.safetensors.index.json"):
        load(tmp_path)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return damage


BAD: dict[str, tuple[Damage, str]] = {
    "an empty folder": (_empty, "is not a checkpoint: it has no model.safetensors"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "it has no model.safetensors"),
    "a pickle": (_pickled, r"as a pickle \(pytorch_model.bin\).*only safetensors"),
    "a truncated file": (_truncated, r"model.safetensors \(\d.* bytes\) is truncated or not a safetensors file"),
    "a foreign file": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"PK\x03\x04 this is a zip"),
        "truncated or not a safetensors file",
    ),
    "weights of another network": (
        lambda folder: save_file({"a": torch.zeros(2)}, folder / "model.safetensors"),
        r"do not fit Transformer.*tensors are missing \(embedding.weight, .*more\); 1 are unexpected \(a\)",
    ),
    "a missing tensor": (
        _weights(lambda weights: weights.pop("norm.bias")),
        r"1 tensors are missing \(norm.bias\)",
    ),
    "an unexpected tensor": (
        _weights(lambda weights: weights.update(extra=torch.zeros(1))),
        r"1 are unexpected \(extra\)",
    ),
    "a tensor of another shape": (
        edit("config.json", vocab_size=9),
        rf"2 have another shape|3 have another shape \(embedding.weight \[{SIZE}, 16\] instead of \[9, 16\]",
    ),
    "another vocabulary": (
        edit("sepo.json", process={"kind": "absorbing", "size": 9, "mask": 8}),
        rf"sepo.json does not fit the network beside it. The process has size=9 .* vocab_size={SIZE}",
    ),
    "a mask outside the vocabulary": (
        edit("sepo.json", process={"kind": "absorbing", "size": SIZE, "mask": SIZE}),
        rf"sepo.json: mask={SIZE}: the mask id must be one of the {SIZE}",
    ),
    "a length that does not fit": (
        edit("sepo.json", length=99),
        "length=99 does not fit the network, which takes 1 to",
    ),
    "a banned id outside": (edit("sepo.json", banned=[99]), r"banned=\[99\]"),
    "an unknown family": (
        edit("sepo.json", family="unet"),
        "unknown family 'unet'; the known ones are grid, transformer",
    ),
    "another family": (edit("sepo.json", family="dit"), "names the family 'dit' but .* is of 'transformer'"),
    "an unknown process": (edit("sepo.json", process={"kind": "gaussian"}), "unknown process 'gaussian'; .* absorbing"),
    "an unknown schedule": (edit("sepo.json", schedule={"kind": "linear"}), "unknown schedule 'linear'; .* loglinear"),
    "a schedule's unknown field": (
        edit("sepo.json", schedule={"kind": "loglinear", "epsilon": 1}),
        "schedule .*unexpected keyword argument 'epsilon'",
    ),
    "an impossible schedule": (edit("sepo.json", schedule={"kind": "loglinear", "eps": 2.0}), "eps=2.0: needs a value"),
    "an unknown meaning": (edit("sepo.json", meaning={"kind": "velocity"}), "unknown meaning 'velocity'"),
    "a newer format": (edit("sepo.json", format=2), "has format 2 but .* formats up to 1: upgrade"),
    "no format": (edit("sepo.json", format=None), "no integer under 'format'"),
    "an entry too many": (edit("sepo.json", guidance=3), r"unknown entries \['guidance'\]"),
    "a broken card": (lambda folder: (folder / "sepo.json").write_text("{"), "sepo.json is not readable as JSON"),
    "a broken configuration": (lambda folder: (folder / "config.json").write_text("{"), "config.json is not readable"),
    "no card": (lambda folder: (folder / "sepo.json").unlink(), "family 'transformer' but no sepo.json.*as_denoiser"),
    "a wrong position": (
        edit("config.json", position={"kind": "spiral"}),
        "config.json: position kind 'spiral': the known kinds are learned",
    ),
    "an unknown network": (edit("config.json", model_type="gpt2"), "model_type 'gpt2' and architectures"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_folder_is_refused_with_what_is_wrong(what: str, tmp_path: Path) -> None:
    damage, message = BAD[what]
    checkpoint(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("entry", ["family", "process", "schedule", "meaning", "banned", "time_free", "length"])
def test_a_card_with_a_missing_entry_names_it(entry: str, tmp_path: Path) -> None:
    checkpoint(tmp_path)
    card = json.loads((tmp_path / "sepo.json").read_text())
    del card[entry]
    (tmp_path / "sepo.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=f"'{entry}' is missing"):
        load(tmp_path)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"model.safetensors is a file, not a checkpoint"):
        load(tmp_path / "model.safetensors")


def test_a_name_that_is_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, **options: object) -> str:
        raise OfflineModeIsEnabled("the hub is out of reach")

    monkeypatch.setattr(opening, "snapshot_download", offline)
    with pytest.raises(ValueError, match=r"'nobody/nothing' is neither a folder here nor.*out of reach"):
        load("nobody/nothing")


def test_a_hub_id_is_fetched_at_its_revision_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def fetch(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(checkpoint(tmp_path))

    monkeypatch.setattr(opening, "snapshot_download", fetch)
    loaded = load("somebody/something", revision="v2")
    assert asked["name"] == "somebody/something"
    assert asked["revision"] == "v2"
    assert not any("bin" in pattern for pattern in asked["allow_patterns"])  # type: ignore[union-attr]
    assert loaded.network.name_or_path == "somebody/something"


def test_a_name_that_is_no_hub_id_is_refused_without_a_stack_of_causes() -> None:
    with pytest.raises(ValueError, match=r"'runs/my/model' is neither a folder here nor"):
        load("runs/my/model")
