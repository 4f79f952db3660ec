"""Which checkpoint is the last good one, and what a kill or a full disk leaves."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from sepo import load
from sepo.runs import RunFolder
from sepo.training.checkpoint import asked_for, is_complete, last_complete, open_folder, sign, step_of, writing
from tests.training.toys import config, policy, raised, same, trainer, weights

SAVING = {"save_strategy": "steps", "save_steps": 2}
NOISE = torch.tensor([[4, 1, 4, 4, 2, 4]])


def checkpoint(root: Path, step: int, state: str | None = None) -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}) if state is None else state)
    return folder


def test_the_last_complete_checkpoint_has_the_highest_step(tmp_path):
    assert last_complete(tmp_path) is None
    for step in (9, 10, 2):
        checkpoint(tmp_path, step)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-10"
    assert step_of(tmp_path / "checkpoint-10") == 10


@pytest.mark.parametrize("state", ["", '{"global_step": 4, "log_hist', "[]", "{}"])
def test_a_checkpoint_whose_state_is_half_written_is_passed_over(tmp_path, state):
    checkpoint(tmp_path, 2)
    broken = checkpoint(tmp_path, 4, state)
    assert not is_complete(broken)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-2"
    assert "not a complete checkpoint" in raised(ValueError, lambda: asked_for(str(broken), tmp_path))


def test_a_checkpoint_without_a_state_is_passed_over(tmp_path):
    checkpoint(tmp_path, 2)
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-best").mkdir()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-2"


def test_what_to_resume_from_is_asked_for_in_transformers_ways(tmp_path):
    folder = checkpoint(tmp_path, 2)
    assert asked_for(None, tmp_path) is None and asked_for(False, tmp_path) is None
    assert asked_for(True, tmp_path) == asked_for(str(folder), tmp_path) == asked_for(folder, tmp_path) == folder


def test_there_must_be_something_to_resume_from(tmp_path):
    assert "no complete checkpoint" in raised(ValueError, lambda: asked_for(True, tmp_path))
    assert "is not a folder" in raised(ValueError, lambda: asked_for(str(tmp_path / "checkpoint-7"), tmp_path))


def test_the_checkpoints_of_an_earlier_run_in_the_folder_are_not_resumed(tmp_path):
    run = RunFolder(tmp_path)
    open_folder(run, None, {})
    sign(checkpoint(tmp_path, 100))
    assert last_complete(tmp_path) == tmp_path / "checkpoint-100"
    open_folder(run, None, {})
    assert last_complete(tmp_path) is None
    sign(checkpoint(tmp_path, 5))
    assert last_complete(tmp_path) == tmp_path / "checkpoint-5"


def test_a_run_resumed_by_name_goes_on_as_that_run(tmp_path):
    run = RunFolder(tmp_path)
    open_folder(run, None, {})
    first = checkpoint(tmp_path, 100)
    sign(first)
    open_folder(run, None, {})
    open_folder(run, first, {})
    assert last_complete(tmp_path) == first


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
    ],
)
def test_a_full_disk_is_named_with_the_last_good_checkpoint_and_what_was_written_is_removed(tmp_path, error):
    good = checkpoint(tmp_path, 2)
    folder = tmp_path / "checkpoint-4"

    def write():
        with writing(folder, main=True):
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"half")
            raise error

    message = raised(OSError, write)
    assert str(folder) in message and str(good) in message and "Free some space" in message
    assert not folder.exists() and last_complete(tmp_path) == good


def test_other_errors_pass_as_they_are(tmp_path):
    def write():
        with writing(tmp_path / "checkpoint-4", main=True):
            raise RuntimeError("CUDA error")

    assert raised(RuntimeError, write) == "CUDA error"


def test_a_checkpoint_that_is_written_again_is_incomplete_meanwhile(tmp_path):
    folder = checkpoint(tmp_path, 4)
    with writing(folder, main=True):
        assert not is_complete(folder)


@pytest.mark.parametrize("what", ["optimizer.pt", "stream_0.json", "trainer_state.json", "model.safetensors"])
def test_a_disk_that_fills_up_while_saving_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, what):
    run = trainer(tmp_path, **SAVING)
    fill_up(monkeypatch, f"checkpoint-4/{what}", run)
    message = raised(OSError, run.train)
    assert "checkpoint-4" in message and "No space left" in message and "checkpoint-2" in message
    assert not (tmp_path / "checkpoint-4").exists()
    monkeypatch.undo()
    assert load(tmp_path / "checkpoint-2").process == run.policy.process
    assert last_complete(tmp_path) == tmp_path / "checkpoint-2"


def fill_up(monkeypatch, where: str, run) -> None:
    """Writing the named file meets a full disk, half way."""
    folder, name = where.split("/")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def meets(path) -> bool:
        path = Path(str(path))
        return path.name == name and folder in path.parts

    save, write, to_json = torch.save, Path.write_text, type(run.state).save_to_json
    network = type(run.model).save_pretrained

    def torch_save(value, path, *args, **kwargs):
        if meets(path):
            Path(path).write_bytes(b"half")
            raise full
        return save(value, path, *args, **kwargs)

    def write_text(self, text, *args, **kwargs):
        if meets(self):
            write(self, text[: len(text) // 2])
            raise full
        return write(self, text, *args, **kwargs)

    def save_to_json(self, path):
        if meets(path):
            Path(path).write_text('{"global_st')
            raise full
        to_json(self, path)

    def save_pretrained(self, path, **kwargs):
        network(self, path, **kwargs)
        if meets(Path(path) / "model.safetensors"):
            (Path(path) / "model.safetensors").write_bytes(b"half")
            raise full

    monkeypatch.setattr(torch, "save", torch_save)
    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setattr(type(run.state), "save_to_json", save_to_json)
    monkeypatch.setattr(type(run.model), "save_pretrained", save_pretrained)


def test_a_full_disk_while_logging_names_the_file(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = trainer(tmp_path)
    monkeypatch.setattr("sepo.training.callbacks.log_metrics", full)
    message = raised(OSError, run.train)
    assert "metrics.jsonl could not be written" in message and "No space left" in message


def test_a_checkpoint_opens_as_a_model_with_the_same_logits(tmp_path):
    run = trainer(tmp_path, **SAVING)
    run.train()
    opened = load(tmp_path / "checkpoint-4")
    with torch.no_grad():
        for each in (opened, run.policy):
            each.network.eval()
        first, second = (each.logits(NOISE, torch.ones(1)) for each in (opened, run.policy))
    assert torch.equal(first, second)
    assert (opened.process, opened.length, opened.time_free) == (run.policy.process, 6, True)
    assert not torch.equal(first, policy().logits(NOISE, torch.ones(1)))


def test_the_model_is_saved_as_a_folder_too(tmp_path):
    run = trainer(tmp_path)
    run.train()
    run.save_model()
    assert same(weights(load(tmp_path).network), weights(run.model))
    assert torch.load(tmp_path / "training_args.bin", weights_only=False).num_generations == 4


def test_old_checkpoints_are_rotated_away(tmp_path):
    trainer(tmp_path, max_steps=6, save_total_limit=1, **SAVING).train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]


def test_a_checkpoint_of_weights_alone_cannot_be_resumed_and_says_why(tmp_path):
    trainer(tmp_path, save_only_model=True, **SAVING).train()
    run = trainer(tmp_path)
    assert "save_only_model" in raised(ValueError, lambda: run.train(resume_from_checkpoint=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"per_device_train_batch_size": 4}, "per_device_train_batch_size = 4 (was 8)"),
        ({"num_generations": 8}, "num_generations = 8 (was 4)"),
        ({"num_iterations": 2}, "num_iterations = 2 (was 1)"),
    ],
)
def test_a_run_of_other_sizes_is_not_resumed(tmp_path, options, words):
    trainer(tmp_path, **SAVING).train()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    run = trainer(tmp_path, **options)
    assert words in raised(ValueError, lambda: run.train(resume_from_checkpoint=True))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_settings_are_written_where_a_run_is_resumed_in_a_new_folder(tmp_path):
    trainer(tmp_path / "old", **SAVING).train()
    run = trainer(tmp_path / "new", max_steps=6)
    run.train(resume_from_checkpoint=str(tmp_path / "old" / "checkpoint-2"))
    assert run.state.global_step == 6
    assert (tmp_path / "new" / "config.yaml").is_file()
    assert config(tmp_path).beta == 0
