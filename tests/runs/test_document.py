"""The document: sections survive the way to plain files and back; damage is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepo.runs import RunFolder, start_run
from sepo.runs.document import NOUNS, Document, load_document, save_document
from sepo.runs.pixels import SIGNATURE
from sepo.runs.sections import Section


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return start_run(tmp_path, {})


def alike(one: Any, other: Any) -> bool:
    """Equal up to list or tuple, number types and NaN."""
    if is_dataclass(one):
        return type(one) is type(other) and all(
            alike(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Sequence | np.ndarray) and not isinstance(one, (str, bytes)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float | np.floating):
        return float(one) == float(other) or (np.isnan(one) and np.isnan(float(other)))
    return one == other


def test_every_section_comes_back_from_plain_files_as_it_was(run: RunFolder, everything: tuple[Section, ...]):
    save_document(run, Document("Title", "Sub", everything))
    back = load_document(run)
    assert (back.title, back.subtitle) == ("Title", "Sub")
    assert len(back.sections) == len(everything)
    for stored, given in zip(back.sections, everything, strict=True):
        assert alike(given, stored), given


def test_every_kind_of_section_is_known_to_the_document(run: RunFolder, everything: tuple[Section, ...]):
    save_document(run, Document(sections=everything))
    assert set(NOUNS) == {kind for kind in NOUNS if f'"kind": "{kind}"' in run.sections.read_text()}


def test_arrays_and_pictures_lie_under_the_names_of_their_sections(run: RunFolder, everything: tuple[Section, ...]):
    save_document(run, Document(sections=everything))
    found = sorted(str(path.relative_to(run.path)) for path in run.path.glob("*/*"))
    assert found == [
        "figures/before-after-drawn-2.png",
        "figures/before-after-drawn.png",
        "samples/before-after-after.npy",
        "samples/before-after-before-2.npy",
        "samples/before-after-before-givens.npy",
        "samples/before-after-before.npy",
        "samples/film.npy",
    ]
    stored = np.load(run.path / "samples/before-after-before.npy")
    np.testing.assert_array_equal(stored, np.arange(12).reshape(3, 2, 2) % 9)
    assert (run.path / "figures/before-after-drawn.png").read_bytes().startswith(SIGNATURE)


def test_a_run_without_sections_of_its_own_has_an_empty_document(run: RunFolder):
    assert load_document(run).sections == ()


def test_a_missing_array_is_named(run: RunFolder, everything: tuple[Section, ...]):
    save_document(run, Document(sections=everything))
    (run.path / "samples/film.npy").unlink()
    with pytest.raises(ValueError, match=r"lacks samples/film\.npy, which report\.json names"):
        load_document(run)


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_array_is_named(run: RunFolder, everything: tuple[Section, ...], content: bytes):
    save_document(run, Document(sections=everything))
    (run.path / "samples/film.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"film\.npy is not a NumPy array"):
        load_document(run)


def test_a_pickle_in_place_of_an_array_is_not_opened(run: RunFolder, everything: tuple[Section, ...]):
    save_document(run, Document(sections=everything))
    np.save(run.path / "samples/film.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"film\.npy is not a NumPy array"):
        load_document(run)


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/hostname"])
def test_a_report_reads_nothing_outside_its_folder(run: RunFolder, everything: tuple[Section, ...], name: str):
    save_document(run, Document(sections=everything))
    run.sections.write_text(run.sections.read_text().replace("samples/film.npy", name))
    with pytest.raises(ValueError, match="lies outside the run"):
        load_document(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"not a report of version 1 \(found 'list'\)"),
        ({"version": 2, "sections": []}, r"not a report of version 1 \(found 2\)"),
        ({"version": 1, "sections": [{"kind": "Hologram"}]}, "unknown kind 'Hologram'; known are Headline"),
        (
            {"version": 1, "sections": [{"kind": "Note", "title": "", "text": "", "colour": "red"}]},
            r"does not describe its sections .*colour",
        ),
        ({"version": 1, "sections": [{}]}, "does not describe its sections"),
    ],
)
def test_a_foreign_description_is_named(run: RunFolder, content: Any, message: str):
    run.sections.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_document(run)
