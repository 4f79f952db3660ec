"""What the tests of the run folder share."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest

from sepo.runs import (
    Boards,
    Chart,
    Curves,
    Figure,
    Filmstrip,
    Gallery,
    Guide,
    Headline,
    Images,
    Metric,
    Note,
    Panel,
    Pixels,
    Section,
    Series,
    Table,
    TextColumn,
    Texts,
)
from sepo.runs.pixels import png


@pytest.fixture
def as_in_use() -> Iterator[None]:
    """Switches the shape checks of the tests off, so that wrong input meets the errors that a user would see."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def everything() -> tuple[Section, ...]:
    """A section of every kind, every field used."""
    greys = np.arange(12).reshape(3, 2, 2) % 9
    dot = png(np.zeros((1, 1, 3), np.uint8))
    return (
        Headline(
            [Figure("reward", np.float32(0.5), before=0.25, unit="x", note="n"), Figure("state", "good")], text="t"
        ),
        Gallery(
            "Before & after",
            [
                Panel("before", Pixels(greys, 8), ["a", "b", "c"], text="p"),
                Panel("after", Pixels(greys.astype(np.uint8), 8, mask=8)),
                Panel("drawn", Images([dot, dot])),
            ],
            columns=2,
        ),
        Gallery(
            "Before & after", [Panel("before", Boards(np.ones((1, 4, 4), int), np.ones((1, 4, 4), bool), box=(2, 2)))]
        ),
        Filmstrip("Film", Pixels(greys[None], 8), frames=["0", "1", "2"], samples=["only"]),
        Curves(
            "Curves",
            [
                Chart("reward", [Metric("reward", "mean")], unit="u", guides=[Guide(0.9, "real")], text="t"),
                Chart("front", [Series("front", np.array([1.0, 2.0]), [float("nan"), 2], ["a", "b"])], x_label="KL"),
            ],
        ),
        Table("Judges", ["judge", "share"], [["forest", 0.5], ["knn", None]], emphasis="knn"),
        Texts("Texts", [TextColumn("before", ["a <b>"], text="t"), TextColumn("after", ["c"])], mask="_"),
        Note("Note", "one\n\ntwo"),
    )
