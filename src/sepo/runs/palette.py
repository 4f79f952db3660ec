"""The colours of pictures and pages: paper, ink and one accent, for light and for dark surroundings."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """`empty` is the colour of the lowest grey level, `full` of the highest, `mask` (the accent, softened) of a masked
    site."""

    page: RGB
    empty: RGB
    full: RGB
    mask: RGB
    accent: RGB


LIGHT = Palette(
    page=(251, 250, 247), empty=(238, 236, 230), full=(24, 26, 29), mask=(134, 198, 189), accent=(13, 124, 116)
)
DARK = Palette(page=(20, 22, 25), empty=(34, 38, 43), full=(244, 242, 236), mask=(27, 95, 89), accent=(61, 180, 168))
