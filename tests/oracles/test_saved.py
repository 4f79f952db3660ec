"""Ensembles in folders: what is saved takes the place of what was there, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sepo.models import storage
from sepo.oracles import ConvOracle, ConvOracleConfig, Ensemble, load_oracle, oracle_named, save_oracle
from sepo.oracles.saved import Made, made_of, save_member

TOKENS = torch.randint(4, (5, 30), generator=torch.Generator().manual_seed(0))


def ensemble(members: int, seed: int = 0) -> Ensemble:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Ensemble([ConvOracle(ConvOracleConfig(hidden_size=4)) for _ in range(members)])


def test_a_smaller_ensemble_leaves_no_member_of_the_larger_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the user's")
    made = [Made({"seed": number}, "these", 1.0) for number in range(3)]
    save_oracle(ensemble(3), tmp_path, made)
    assert made_of(tmp_path / "member_2") == made[2]
    small = ensemble(2, seed=1)
    save_oracle(small, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member_0", "member_1", "notes.txt"]
    assert torch.equal(load_oracle(tmp_path)(TOKENS), small(TOKENS))
    assert made_of(tmp_path / "member_0") is None  # a note of the former network would be untrue


@pytest.mark.parametrize("moves", range(6))
def test_a_kill_while_saving_leaves_the_former_ensemble_or_the_new_one(tmp_path: Path, monkeypatch, moves: int) -> None:
    former, new = ensemble(3), ensemble(2, seed=1)
    save_oracle(former, tmp_path)
    real, done = os.replace, []

    def killed(source: str | Path, target: str | Path) -> None:
        if len(done) >= moves:
            raise KeyboardInterrupt
        done.append(target)
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(storage.os, "replace", killed)
        try:
            save_oracle(new, tmp_path)
        except KeyboardInterrupt:
            assert len(done) == moves
    found = oracle_named(str(tmp_path), "ACGT")
    assert torch.equal(found(TOKENS), (new if moves else former)(TOKENS))
    assert not list(tmp_path.glob(".*")) or not moves


def test_a_member_that_is_not_whole_has_no_note(tmp_path: Path, monkeypatch) -> None:
    def full(*given: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("sepo.oracles.saved.write_json", full)
    with pytest.raises(OSError, match="disk full"):
        save_member(ensemble(1).members[0], tmp_path / "member_0", Made({}, "these", 1.0))  # type: ignore[arg-type]
    assert made_of(tmp_path / "member_0") is None and not list(tmp_path.iterdir())
