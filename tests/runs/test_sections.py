"""Sections: what does not fit together is refused where it is made."""

from __future__ import annotations

import numpy as np
import pytest

from sepo.runs import Boards, Filmstrip, Images, Panel, Pixels, Series, Table, TextColumn, Texts
from sepo.runs.sections import picture_count

PIXELS = Pixels(np.zeros((3, 2, 2), int), 8)
FILM = Pixels(np.zeros((3, 5, 2, 2), int), 8)


def test_pictures_are_counted_over_all_axes_but_height_and_width():
    assert picture_count(PIXELS) == 3
    assert picture_count(FILM) == 15
    assert picture_count(Boards(np.zeros((2, 4, 4), int), np.zeros((2, 4, 4), bool))) == 2


def test_a_picture_that_is_no_png_is_refused():
    with pytest.raises(ValueError, match=r"picture 0 is not a PNG file .*GIF89a"):
        Images([b"GIF89a......"])


def test_captions_must_be_as_many_as_pictures():
    with pytest.raises(ValueError, match="panel 'before' has 2 captions for 3 pictures"):
        Panel("before", PIXELS, captions=["a", "b"])


def test_a_filmstrip_needs_an_axis_of_samples_and_one_of_frames():
    with pytest.raises(
        ValueError, match=r"filmstrip 'film' has axes \(3, 2, 2\); hand \(sample, frame, height, width\)"
    ):
        Filmstrip("film", PIXELS)


def test_the_labels_of_a_filmstrip_must_fit_its_axes():
    with pytest.raises(ValueError, match="2 labels for 5 frames"):
        Filmstrip("film", FILM, frames=["a", "b"])
    with pytest.raises(ValueError, match="1 labels for 3 samples"):
        Filmstrip("film", FILM, samples=["a"])


def test_a_series_needs_as_many_x_as_y_as_labels():
    with pytest.raises(ValueError, match="series 'front' has 2 x, 1 y and 0 labels"):
        Series("front", [1, 2], [1])
    with pytest.raises(ValueError, match="2 x, 2 y and 1 labels"):
        Series("front", [1, 2], [1, 2], ["a"])


def test_a_row_of_a_table_must_have_its_columns():
    with pytest.raises(ValueError, match=r"table 'judges' has 2 columns and a row of 1: \['forest'\]"):
        Table("judges", ["judge", "share"], [["forest", 0.5], ["forest"]])


def test_columns_of_texts_must_be_equally_long():
    with pytest.raises(ValueError, match="'before': 2, 'after': 1"):
        Texts("samples", [TextColumn("before", ["a", "b"]), TextColumn("after", ["a"])])
