"""A checkpoint folder changes as a whole, whatever happens in between."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from sepo.models import load, save_pretrained, storage
from sepo.models.storage import COMMIT, STAGING, replacing, settle
from tests.models.toys import denoiser


def write(folder: Path, **contents: str) -> None:
    with replacing(folder) as staging:
        for name, content in contents.items():
            (staging / f"{name}.safetensors").write_text(content)


def content(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.safetensors"))}


def test_files_appear_and_are_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write(folder, model="old", other="kept")
    write(folder, model="new")
    assert content(folder) == {"model": "new", "other": "kept"}
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "other.safetensors"]


def test_weights_of_a_former_checkpoint_do_not_stay_beside_the_new_ones(tmp_path: Path) -> None:
    write(tmp_path, **{"model-00001-of-00002": "1", "model-00002-of-00002": "2", "stream_0": "the trainer's"})
    write(tmp_path, model="all in one")
    assert content(tmp_path) == {"model": "all in one", "stream_0": "the trainer's"}


def test_a_failure_while_writing_leaves_everything_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, model="good")
    with pytest.raises(OSError, match="disk full"), replacing(tmp_path) as staging:
        (staging / "model.safetensors").write_text("half")
        raise OSError("disk full")
    assert content(tmp_path) == {"model": "good"}
    assert list(tmp_path.glob(".*")) == []


def test_a_failure_in_a_new_folder_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "new"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("moves", range(3))
def test_a_kill_while_files_move_is_finished_by_the_next_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    write(tmp_path, model="old", first="old", second="old")
    real, done = os.replace, []

    def killed(source: str | Path, target: str | Path) -> None:
        if len(done) > moves:
            raise KeyboardInterrupt
        done.append(target)
        real(source, target)

    monkeypatch.setattr(storage.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, model="new", first="new", second="new")
    monkeypatch.setattr(storage.os, "replace", real)
    assert list(content(tmp_path).values()).count("new") == moves
    settle(tmp_path)
    assert content(tmp_path) == {"model": "new", "first": "new", "second": "new"}
    assert not (tmp_path / COMMIT).exists()


def test_a_kill_before_the_commit_is_as_if_nothing_was_written(tmp_path: Path) -> None:
    write(tmp_path, model="good")
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / "model.safetensors").write_text("half of a file")
    settle(tmp_path)
    assert content(tmp_path) == {"model": "good"}
    write(tmp_path, model="next")
    assert content(tmp_path) == {"model": "next"}
    assert not (tmp_path / STAGING).exists()


def test_folders_inside_travel_with_it(tmp_path: Path) -> None:
    with replacing(tmp_path) as staging:
        (staging / "base").mkdir()
        (staging / "base" / "config.json").write_text("{}")
    assert (tmp_path / "base" / "config.json").read_text() == "{}"


def _save_for_ever(folder: Path, begun: Event) -> None:
    lenses = [denoiser("dit"), denoiser("transformer")]
    while True:
        for lens in lenses:
            save_pretrained(lens, folder)
            begun.set()


@pytest.mark.slow
def test_a_process_killed_at_any_moment_of_saving_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    save_pretrained(denoiser("transformer"), tmp_path)
    rng, found, unfinished = random.Random(0), set(), 0
    context = multiprocessing.get_context("fork")
    for _ in range(25):
        begun = context.Event()
        process = context.Process(target=_save_for_ever, args=(tmp_path, begun))
        process.start()
        assert begun.wait(60)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.join()
        unfinished += (tmp_path / COMMIT).exists() or (tmp_path / STAGING).exists()
        found.add(type(load(tmp_path).network).__name__)
    assert found == {"Transformer", "DiT"}
    assert unfinished > 0, "no kill came while something was being written: the test has shown nothing"
