"""Plain data and files that are replaced whole."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo.runs.plain import numbers_back, plain, read_json, replacing, to_json, write_json, write_text


class Colour(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Options:
    epsilon: float
    folder: Path


def test_numpy_values_tuples_sets_paths_enums_and_dataclasses_become_plain():
    value = {
        "number": np.float32(0.5),
        "array": np.arange(4).reshape(2, 2),
        "pair": (1, None),
        "set": {"b", "a"},
        "colour": Colour.RED,
        "options": Options(0.2, Path("runs/mine")),
        3: True,
    }
    assert plain(value) == {
        "number": 0.5,
        "array": [[0, 1], [2, 3]],
        "pair": [1, None],
        "set": ["a", "b"],
        "colour": "red",
        "options": {"epsilon": 0.2, "folder": "runs/mine"},
        "3": True,
    }


def test_subclasses_of_numbers_and_strings_lose_their_class():
    assert type(plain(np.float64(1.5))) is float
    assert type(plain(Colour.RED)) is str


def test_a_value_that_is_not_plain_is_named_with_its_place_and_the_remedy():
    with pytest.raises(ValueError, match=r"metrics\.inner\[1\] is of type Tensor.*\.item\(\)"):
        plain({"inner": [1, torch.zeros(())]}, "metrics")


def test_json_is_strict_and_numbers_that_are_not_finite_survive():
    record = {"a": math.nan, "b": math.inf, "c": [-math.inf], "d": 1.0}
    text = to_json(record)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not strict JSON")

    stored = json.loads(text, parse_constant=refuse)
    assert stored == {"a": "NaN", "b": "Infinity", "c": ["-Infinity"], "d": 1.0}
    back = numbers_back(stored)
    assert math.isnan(back["a"]) and back["b"] == math.inf and back["d"] == 1.0


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "summary.json"
    write_json(path, {"reward": 1})
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        temporary.write_text('{"rew')
        raise OSError("disk full")
    assert read_json(path) == {"reward": 1}
    assert [child.name for child in tmp_path.iterdir()] == ["summary.json"]


def test_a_write_of_what_is_not_plain_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "summary.json"
    write_json(path, {"reward": 1})
    with pytest.raises(ValueError, match=r"summary\.json\.reward is of type function"):
        write_json(path, {"reward": refuse_nothing})
    assert read_json(path) == {"reward": 1}


def refuse_nothing() -> None: ...


def test_folders_on_the_way_are_made(tmp_path: Path):
    write_text(tmp_path / "a" / "b.txt", "β")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "β".encode()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"summary\.json is not JSON"):
        read_json(path)
