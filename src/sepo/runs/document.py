"""The document: a report's sections as plain files, so that the page can be made again from the folder alone.

report.json holds the text and the numbers; arrays lie beside it as samples/*.npy, pictures as figures/*.png.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepo.runs import sections
from sepo.runs.boards import Boards
from sepo.runs.folder import RunFolder
from sepo.runs.pixels import Pixels
from sepo.runs.plain import plain, read_json, replacing, write_json
from sepo.runs.sections import Section

VERSION = 1
NOUNS = {
    noun.__name__: noun
    for noun in (
        *(sections.Headline, sections.Figure, sections.Note, sections.Table, sections.Texts, sections.TextColumn),
        *(sections.Gallery, sections.Panel, sections.Images, sections.Filmstrip, Pixels, Boards),
        *(sections.Curves, sections.Chart, sections.Metric, sections.Series, sections.Guide),
    )
}


@dataclass(frozen=True, eq=False)
class Document:
    """What a report says: a title, a line beneath it, and the sections in order."""

    title: str = ""
    subtitle: str = ""
    sections: Sequence[Section] = ()


def save_document(run: RunFolder, document: Document) -> None:
    """Writes report.json and the arrays and pictures it refers to, each whole or not at all."""
    taken: set[str] = set()
    stored = [_stored(run, section, (), taken) for section in document.sections]
    content = {"version": VERSION, "title": document.title, "subtitle": document.subtitle, "sections": stored}
    write_json(run.sections, content)


def load_document(run: RunFolder) -> Document:
    """The sections of a run's report; an empty document if the run has none of its own.

    Raises:
        ValueError: if report.json or a file it names is damaged, missing, or made by another version, saying which.
    """
    if not run.sections.is_file():
        return Document()
    content = read_json(run.sections)
    if (
        not isinstance(content, dict)
        or content.get("version") != VERSION
        or not isinstance(content.get("sections"), list)
    ):
        found = content.get("version") if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{run.sections} is not a report of version {VERSION} (found {found!r}); "
            "draw it with the sepo that wrote it, or delete it for a plain report."
        )
    try:
        loaded = tuple(_loaded(run, section) for section in content["sections"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{run.sections} does not describe its sections ({error}); delete it for a plain report."
        ) from error
    return Document(str(content.get("title", "")), str(content.get("subtitle", "")), loaded)


def _stored(run: RunFolder, value: Any, names: tuple[str, ...], taken: set[str]) -> Any:
    if isinstance(value, np.ndarray):
        name = _file_name("samples", names, ".npy", taken)
        with replacing(run.path / name) as temporary, open(temporary, "wb") as file:
            np.save(file, value, allow_pickle=False)
        return {"npy": name}
    if isinstance(value, bytes):
        name = _file_name("figures", names, ".png", taken)
        with replacing(run.path / name) as temporary:
            temporary.write_bytes(value)
        return {"png": name}
    if isinstance(value, sections.Series):
        return {"kind": "Series", **plain(value, value.name)}
    if is_dataclass(value) and not isinstance(value, type):
        entries = {field.name: getattr(value, field.name) for field in fields(value)}
        names = (*names, str(entries["title"])) if "title" in entries else names
        stored = {
            # the tokens are the picture itself, and its file is named after its section and panel alone
            name: _stored(run, entry, names if name in ("tokens", "files") else (*names, name), taken)
            if isinstance(entry, np.ndarray)
            else _stored(run, entry, names, taken)
            for name, entry in entries.items()
        }
        return {"kind": type(value).__name__, **stored}
    if isinstance(value, (list, tuple)):
        return [_stored(run, entry, names, taken) for entry in value]
    return plain(value, " / ".join(names))


def _file_name(folder: str, names: tuple[str, ...], suffix: str, taken: set[str]) -> str:
    """`samples/before-and-after-pretrained.npy`, with a number if the name is taken."""
    words = re.sub(r"[^a-z0-9]+", "-", " ".join(names).lower()).strip("-")[:80] or "picture"
    number, name = 1, f"{folder}/{words}{suffix}"
    while name in taken:
        number += 1
        name = f"{folder}/{words}-{number}{suffix}"
    taken.add(name)
    return name


def _loaded(run: RunFolder, stored: Any) -> Any:
    if isinstance(stored, list):
        return tuple(_loaded(run, entry) for entry in stored)
    if not isinstance(stored, Mapping):
        return stored
    if "npy" in stored:
        path = _beside(run, stored["npy"])
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path} is not a NumPy array ({error}); make the report again from the run.") from error
    if "png" in stored:
        return _beside(run, stored["png"]).read_bytes()
    kind = stored["kind"]
    if kind not in NOUNS:
        raise ValueError(f"{run.sections} has a section of unknown kind {kind!r}; known are {', '.join(NOUNS)}.")
    return NOUNS[kind](**{name: _loaded(run, entry) for name, entry in stored.items() if name != "kind"})


def _beside(run: RunFolder, name: str) -> Path:
    path = (run.path / name).resolve()
    if not path.is_relative_to(run.path.resolve()):
        raise ValueError(
            f"{run.sections} names {name!r}, which lies outside the run; a report reads its own folder only."
        )
    if not path.is_file():
        raise ValueError(f"{run.path} lacks {name}, which report.json names; restore it or write the report again.")
    return path
