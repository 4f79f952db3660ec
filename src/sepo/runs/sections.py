"""The sections of a report: plain nouns that a task fills with its data and the page draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np

from sepo.runs.boards import Boards
from sepo.runs.pixels import SIGNATURE, Pixels


@dataclass(frozen=True)
class Figure:
    """One number of the headline: `value`, and what it was `before`."""

    label: str
    value: SupportsFloat | str
    before: SupportsFloat | str | None = None
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """The figures that a reader should see first; the first one is the largest claim."""

    figures: Sequence[Figure]
    title: str = ""
    text: str = ""


@dataclass(frozen=True)
class Images:
    """Pictures that came as PNG files."""

    files: Sequence[bytes]

    def __post_init__(self) -> None:
        for position, file in enumerate(self.files):
            if not file.startswith(SIGNATURE):
                raise ValueError(f"picture {position} is not a PNG file (it starts with {file[:8]!r}); save it as PNG.")


Pictures = Pixels | Boards | Images


@dataclass(frozen=True, eq=False)
class Panel:
    """Pictures that belong together, such as the samples before; `captions` has one string per picture, or none."""

    title: str
    pictures: Pictures
    captions: Sequence[str] = ()
    text: str = ""

    def __post_init__(self) -> None:
        number = picture_count(self.pictures)
        if self.captions and len(self.captions) != number:
            raise ValueError(
                f"panel {self.title!r} has {len(self.captions)} captions for {number} pictures; give one each."
            )


@dataclass(frozen=True, eq=False)
class Gallery:
    """Panels side by side: before and after. `columns` pictures in a row; about square without it."""

    title: str
    panels: Sequence[Panel]
    text: str = ""
    columns: int | None = None


@dataclass(frozen=True, eq=False)
class Filmstrip:
    """Samples being filled in step by step: pictures with axes (sample, frame, height, width), one row per sample.

    `frames` names the columns, `samples` the rows.
    """

    title: str
    pictures: Pixels | Boards
    frames: Sequence[str] = ()
    samples: Sequence[str] = ()
    text: str = ""

    def __post_init__(self) -> None:
        shape = self.pictures.tokens.shape
        if len(shape) != 4:
            raise ValueError(f"filmstrip {self.title!r} has axes {shape}; hand (sample, frame, height, width).")
        for name, labels, number in (("samples", self.samples, shape[0]), ("frames", self.frames, shape[1])):
            if labels and len(labels) != number:
                raise ValueError(
                    f"filmstrip {self.title!r} has {len(labels)} labels for {number} {name}; give one each."
                )


@dataclass(frozen=True)
class Metric:
    """A curve read from metrics.jsonl when the page is drawn."""

    key: str
    name: str = ""


@dataclass(frozen=True, eq=False)
class Series:
    """A curve with its own data, such as the front of reward over KL; `labels` name its points (beta = 0.05)."""

    name: str
    x: Sequence[SupportsFloat | str] | np.ndarray
    y: Sequence[SupportsFloat | str] | np.ndarray
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or (self.labels and len(self.labels) != len(self.x)):
            raise ValueError(
                f"series {self.name!r} has {len(self.x)} x, {len(self.y)} y and {len(self.labels)} labels; "
                "give equally many."
            )


@dataclass(frozen=True)
class Guide:
    """A level to compare the curves with, drawn as a thin line."""

    y: SupportsFloat | str
    label: str


@dataclass(frozen=True)
class Chart:
    """One set of axes: `title` says what the curves are, `unit` in what; the x axis is the step unless named."""

    title: str
    series: Sequence[Metric | Series]
    x_label: str = "step"
    unit: str = ""
    guides: Sequence[Guide] = ()
    text: str = ""


@dataclass(frozen=True)
class Curves:
    """Charts, two in a row."""

    title: str
    charts: Sequence[Chart]
    text: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers, such as the verdict of judges; the row named `emphasis` stands out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[SupportsFloat | str | None]]
    text: str = ""
    emphasis: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r} has {len(self.columns)} columns and a row of {len(row)}: {row!r}."
                )


@dataclass(frozen=True)
class TextColumn:
    """Samples of text, one per row."""

    title: str
    samples: Sequence[str]
    text: str = ""


@dataclass(frozen=True)
class Texts:
    """Samples of text in columns (before, after; or one column per step); every `mask` in them is drawn as a block."""

    title: str
    columns: Sequence[TextColumn]
    text: str = ""
    mask: str = ""

    def __post_init__(self) -> None:
        if len({len(column.samples) for column in self.columns}) > 1:
            counts = ", ".join(f"{column.title!r}: {len(column.samples)}" for column in self.columns)
            raise ValueError(
                f"texts {self.title!r} have columns of different length ({counts}); give equally many samples."
            )


@dataclass(frozen=True)
class Note:
    """A paragraph of prose; blank lines part paragraphs."""

    title: str
    text: str


Section = Headline | Gallery | Filmstrip | Curves | Table | Texts | Note


def picture_count(pictures: Pictures) -> int:
    """How many pictures there are, over all picture axes."""
    if isinstance(pictures, Images):
        return len(pictures.files)
    height, width = pictures.tokens.shape[-2:]
    return pictures.tokens.size // (height * width)
