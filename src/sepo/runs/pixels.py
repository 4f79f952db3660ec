"""Pixels: grids of tokens seen as small grey pictures, masked sites in the accent colour; written as PNG.

PNG after the W3C Portable Network Graphics specification: 8-bit RGB, no filter, one IDAT chunk.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Integer, UInt8

from sepo.runs.palette import LIGHT, Palette

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pictures whose pixels are tokens: grey levels 0 .. `levels`-1, and `mask` (default: `levels`) for a masked site.

    Raises:
        ValueError: if the tokens are no integers with picture, height and width axes, or lie outside the levels.
    """

    tokens: Integer[np.ndarray, "*picture height width"]
    levels: int
    mask: int | None = None

    def __post_init__(self) -> None:
        require_grids(self.tokens, "tokens")
        if self.levels < 2:
            raise ValueError(f"levels={self.levels}: a picture needs at least 2 grey levels.")
        known = (self.tokens >= 0) & (self.tokens < self.levels) | (self.tokens == self.mask_token)
        if not known.all():
            raise ValueError(
                f"token {self.tokens[~known][0]} is neither a grey level (0 to {self.levels - 1}) nor the mask "
                f"({self.mask_token}); set levels and mask to those of the task."
            )

    @property
    def mask_token(self) -> int:
        return self.levels if self.mask is None else self.mask


def require_grids(tokens: np.ndarray, name: str) -> None:
    """Raises ValueError unless `tokens` is an integer array with picture, height and width axes."""
    if not isinstance(tokens, np.ndarray) or tokens.dtype.kind not in "iu" or tokens.ndim < 3 or not tokens.size:
        found = f"{tokens.dtype} of shape {tokens.shape}" if isinstance(tokens, np.ndarray) else type(tokens).__name__
        raise ValueError(
            f"{name} is {found}; hand a non-empty integer NumPy array with axes (picture, height, width), "
            "of a tensor `tokens.reshape(-1, height, width).cpu().numpy()`."
        )


def colours(
    pixels: Pixels, palette: Palette = LIGHT, scale: int = 1
) -> UInt8[np.ndarray, "*picture scaled_height scaled_width 3"]:
    """The pictures in colour, every token a square of `scale` by `scale` pixels."""
    ramp = np.linspace(palette.empty, palette.full, pixels.levels).round().astype(np.uint8)
    masked = pixels.tokens == pixels.mask_token
    drawn = np.where(masked[..., None], np.array(palette.mask, np.uint8), ramp[np.where(masked, 0, pixels.tokens)])
    return drawn.repeat(scale, axis=-3).repeat(scale, axis=-2)


def png(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The bytes of a PNG file with these RGB values."""
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # a leading 0 in every row: no filter
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sheet(
    pixels: Pixels, columns: int | None = None, palette: Palette = LIGHT, scale: int = 6, gap: int = 4
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """All pictures on one sheet, each with a border of one empty token, `gap` pixels apart, row by row.

    About as many rows as columns unless `columns` is given.
    """
    drawn = colours(pixels, palette, scale)
    drawn = drawn.reshape(-1, *drawn.shape[-3:])
    border = np.empty((drawn.shape[0], drawn.shape[1] + 2 * scale, drawn.shape[2] + 2 * scale, 3), np.uint8)
    border[:] = palette.empty
    border[:, scale:-scale, scale:-scale] = drawn
    drawn = border
    number, height, width, _ = drawn.shape
    across = math.ceil(math.sqrt(number)) if columns is None else min(columns, number)
    rows = math.ceil(number / across)
    page = np.empty((rows * (height + gap) - gap, across * (width + gap) - gap, 3), np.uint8)
    page[:] = palette.page
    for position, picture in enumerate(drawn):
        top, left = position // across * (height + gap), position % across * (width + gap)
        page[top : top + height, left : left + width] = picture
    return page


def contact_sheet_png(
    pixels: Pixels, columns: int | None = None, palette: Palette = LIGHT, scale: int = 6, gap: int = 4
) -> bytes:
    """`sheet` as a PNG file."""
    return png(sheet(pixels, columns, palette, scale, gap))


def before_after_png(
    before: Pixels,
    after: Pixels,
    titles: tuple[str, str] = ("pretrained", "fine-tuned"),
    notes: tuple[str, str] = ("", ""),
    columns: int | None = None,
    palette: Palette = LIGHT,
) -> bytes:
    """One picture with two contact sheets side by side under their titles, `notes` in small print beneath them.

    Needs matplotlib, for the letters.

    Raises:
        ValueError: if matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "before_after_png writes titles with matplotlib: pip install matplotlib (extra `demo`)."
        ) from error
    sheets = [sheet(pixels, columns, palette, scale=8, gap=6) for pixels in (before, after)]
    margin, between, above, below = 44, 56, 92, 44
    height = above + max(page.shape[0] for page in sheets) + below
    width = margin + sheets[0].shape[1] + between + sheets[1].shape[1] + margin
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=_unit(palette.page))
    canvas = FigureCanvasAgg(figure)
    left = margin
    for page, title, note, colour in zip(sheets, titles, notes, (palette.full, palette.accent), strict=True):
        figure.figimage(page / 255, xo=left, yo=height - above - page.shape[0], origin="upper")
        figure.text(left / width, 1 - 46 / height, title, size=17, weight="bold", color=_unit(colour), va="baseline")
        figure.text(
            left / width, 1 - 74 / height, note, size=11.5, color=_unit(palette.full), alpha=0.65, va="baseline"
        )
        left += page.shape[1] + between
    canvas.draw()
    return png(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))


def _unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return cast("tuple[float, float, float]", tuple(part / 255 for part in colour))
