"""Pixels: token grids as PNG."""

from __future__ import annotations

import builtins
import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image as matplotlib_image

from sepo.runs import Pixels, before_after_png, contact_sheet_png
from sepo.runs.palette import DARK, LIGHT
from sepo.runs.pixels import colours, png, sheet


def decoded(file: bytes) -> np.ndarray:
    """The pixels as an independent reader sees them, in 0 .. 255."""
    return (matplotlib_image.imread(io.BytesIO(file), format="png") * 255).round().astype(np.uint8)[..., :3]


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, (5, 4, 6))


def test_a_png_decodes_to_the_pixels_it_was_made_of():
    image = np.random.default_rng(1).integers(0, 256, (7, 11, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decoded(png(image)), image)


def test_levels_run_from_paper_to_ink_and_masked_sites_have_their_own_colour():
    row = np.array([[[0, 1, 2, 3]]])
    drawn = colours(Pixels(row, levels=3))[0, 0]
    assert tuple(drawn[0]) == LIGHT.empty
    assert tuple(drawn[2]) == LIGHT.full
    assert tuple(drawn[3]) == LIGHT.mask
    assert LIGHT.full[0] < drawn[1][0] < LIGHT.empty[0]


def test_the_mask_may_be_any_token():
    drawn = colours(Pixels(np.array([[[0, 1, 77]]]), levels=2, mask=77), DARK)[0, 0]
    assert [tuple(colour) for colour in drawn] == [DARK.empty, DARK.full, DARK.mask]


def test_scaling_makes_every_token_a_square(tokens: np.ndarray):
    small, large = colours(Pixels(tokens, 8)), colours(Pixels(tokens, 8), scale=3)
    assert large.shape == (5, 12, 18, 3)
    for row in range(3):
        for column in range(3):
            np.testing.assert_array_equal(large[:, row::3, column::3], small)


def test_a_contact_sheet_holds_every_picture_at_its_place(tokens: np.ndarray):
    pixels = Pixels(tokens, 8)
    page = sheet(pixels, columns=2, scale=2, gap=3)
    height, width = (4 + 2) * 2, (6 + 2) * 2
    assert page.shape == (3 * height + 2 * 3, 2 * width + 3, 3)
    single = colours(pixels, scale=2)
    for index in range(5):
        top, left = index // 2 * (height + 3), index % 2 * (width + 3)
        picture = page[top : top + height, left : left + width]
        np.testing.assert_array_equal(picture[2:-2, 2:-2], single[index])
        assert (picture[:2] == LIGHT.empty).all()
    assert (page[-height:, width:] == LIGHT.page).all()
    np.testing.assert_array_equal(decoded(contact_sheet_png(pixels, columns=2, scale=2, gap=3)), page)


def test_a_contact_sheet_is_about_square_unless_told_and_never_wider_than_its_pictures():
    pixels = Pixels(np.zeros((9, 8, 8), int), 2)
    assert sheet(pixels).shape[0] == sheet(pixels).shape[1]
    assert sheet(pixels, columns=99).shape == sheet(pixels, columns=9).shape


def test_before_and_after_stand_side_by_side_under_their_titles(tokens: np.ndarray):
    before, after = Pixels(tokens[:4], 8), Pixels(tokens[1:], 8)
    image = decoded(before_after_png(before, after, notes=("reward .1", "reward .9"), columns=2))
    left, right = (sheet(pixels, 2, scale=8, gap=6) for pixels in (before, after))
    height, width, _ = left.shape
    np.testing.assert_array_equal(image[92 : 92 + height, 44 : 44 + width], left)
    np.testing.assert_array_equal(image[92 : 92 + height, 44 + width + 56 : 44 + width + 56 + width], right)
    titles = image[:92] != np.array(LIGHT.page)
    assert titles[:, : 44 + width].any() and titles[:, 44 + width + 56 :].any()


def test_the_picture_for_the_readme_is_the_same_every_time(tokens: np.ndarray):
    pixels = Pixels(tokens, 8)
    assert before_after_png(pixels, pixels) == before_after_png(pixels, pixels)


def test_without_matplotlib_the_error_names_the_extra(tokens: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    imported = builtins.__import__

    def without_matplotlib(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return imported(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ValueError, match=r"pip install matplotlib \(extra `demo`\)"):
        before_after_png(Pixels(tokens, 8), Pixels(tokens, 8))


@pytest.mark.usefixtures("as_in_use")
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros((2, 8, 8)), "tokens is float64 of shape"),
        (np.zeros((8, 8), int), r"shape \(8, 8\); hand .*\(picture, height, width\)"),
        (np.zeros((0, 8, 8), int), "non-empty"),
        (torch.zeros(1, 8, 8, dtype=torch.long), r"tokens is Tensor.*\.cpu\(\)\.numpy\(\)"),
    ],
)
def test_what_is_not_a_batch_of_token_grids_is_refused(tokens: Any, message: str):
    with pytest.raises(ValueError, match=message):
        Pixels(tokens, 8)


@pytest.mark.parametrize("token", [9, -1])
def test_a_token_outside_the_levels_is_named(token: int):
    with pytest.raises(ValueError, match=rf"token {token} is neither a grey level \(0 to 7\) nor the mask \(8\)"):
        Pixels(np.array([[[0, token]]]), 8)


def test_one_level_is_not_a_picture():
    with pytest.raises(ValueError, match="levels=1"):
        Pixels(np.zeros((1, 2, 2), int), 1)
