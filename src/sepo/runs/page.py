"""The page: a document drawn as one HTML file that asks nothing of the network and runs no script."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from sepo.runs.boards import Boards, board_svg
from sepo.runs.chart import STYLES, chart_svg, lines_of
from sepo.runs.document import Document
from sepo.runs.numerals import numeral
from sepo.runs.palette import DARK, LIGHT
from sepo.runs.pixels import Pixels, colours, png
from sepo.runs.sections import (
    Chart,
    Curves,
    Figure,
    Filmstrip,
    Gallery,
    Headline,
    Images,
    Panel,
    Pictures,
    Section,
    Table,
    Texts,
    picture_count,
)

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page_html(document: Document, metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any], name: str) -> str:
    """The whole page. `metrics` feed the curves, `config` the settings, `name` is that of the run's folder."""
    title = document.title or f"Run {name}"
    drawn = [(section.title, section_html(section, metrics)) for section in document.sections]
    if config:
        drawn.append(("Settings", settings_html(config)))
    links, bodies = [], []
    for number, (heading, body) in enumerate(drawn):
        if heading:
            links.append(f'<a href="#section-{number}">{escape(heading)}</a>')
        bodies.append(f'<section id="section-{number}">{body}</section>')
    style = resources.files("sepo.runs").joinpath("page.css").read_text(encoding="utf-8")
    subtitle = f'<p class="subtitle">{escape(document.subtitle)}</p>' if document.subtitle else ""
    nav = f'<nav aria-label="Sections">{"".join(links)}</nav>' if len(links) > 1 else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><div class="eyebrow">sepo · {escape(name)}</div><h1>{escape(title)}</h1>{subtitle}{nav}</header>
<main>
{chr(10).join(bodies)}
</main>
<footer>Drawn from the plain files beside it; <code>sepo report</code> with this folder draws it again.</footer>
</body>
</html>
"""


def section_html(section: Section, metrics: Sequence[Mapping[str, Any]] = ()) -> str:
    """The inside of one section, heading included."""
    heading = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    return f'{heading}{_text(section.text)}<div class="body">{_body(section, metrics)}</div>'


def _body(section: Section, metrics: Sequence[Mapping[str, Any]]) -> str:
    if isinstance(section, Headline):
        columns = 3 if len(section.figures) in (3, 5, 6, 9) else 4
        return f'<div class="figures of-{columns}">{"".join(map(_figure, section.figures))}</div>'
    if isinstance(section, Gallery):
        return _gallery(section)
    if isinstance(section, Filmstrip):
        return _filmstrip(section)
    if isinstance(section, Curves):
        charts = [chart_html(chart, metrics) for chart in section.charts]
        return f'<div class="charts">{"".join(charts)}</div>'
    if isinstance(section, Table):
        return _table(section)
    if isinstance(section, Texts):
        return _texts(section)
    return ""


def _text(text: str) -> str:
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    return "".join(f'<p class="text">{escape(part)}</p>' for part in paragraphs)


def _figure(figure: Figure) -> str:
    before = "" if figure.before is None else f'<span class="before">{escape(numeral(figure.before))}</span>'
    arrow = '<span class="arrow">→</span>' if before else ""
    unit = f"<small>{escape(figure.unit)}</small>" if figure.unit else ""
    note = f'<div class="note">{escape(figure.note)}</div>' if figure.note else ""
    return (
        f'<div class="figure"><div class="label">{escape(figure.label)}</div>'
        f'<div class="value">{before}{arrow}<b>{escape(numeral(figure.value))}</b>{unit}</div>{note}</div>'
    )


def _gallery(gallery: Gallery) -> str:
    last = "last-of-two" if len(gallery.panels) > 1 else ""
    panels = [_panel(panel, gallery.columns, last if panel is gallery.panels[-1] else "") for panel in gallery.panels]
    return f'<div class="panels">{"".join(panels)}</div>'


def _panel(panel: Panel, columns: int | None, kind: str) -> str:
    number = picture_count(panel.pictures)
    widest = 4 if isinstance(panel.pictures, (Boards, Images)) else 12
    columns = columns or max(1, min(widest, math.ceil(math.sqrt(number))))
    tiles = []
    for index in range(number):
        caption = f'<div class="caption">{escape(panel.captions[index])}</div>' if panel.captions else ""
        tiles.append(f'<div class="tile">{_picture(panel.pictures, index, columns)}{caption}</div>')
    gap = f' style="grid-template-columns:repeat({columns},1fr);gap:{14 if widest == 4 else 5}px"'
    return (
        f'<figure class="{kind}"><figcaption><h3>{escape(panel.title)}</h3>{_text(panel.text)}</figcaption>'
        f'<div class="tiles"{gap}>{"".join(tiles)}</div></figure>'
    )


def _picture(pictures: Pictures, index: int, columns: int) -> str:
    """One picture; pixels in the colours of the reader's surroundings.

    They are drawn larger than `columns` in a row need: browsers make small squares sharp by shrinking, not by growing.
    """
    if isinstance(pictures, Boards):
        return board_svg(pictures, index)
    if isinstance(pictures, Images):
        return f'<img class="picture" alt="picture {index + 1}" src="{_data(pictures.files[index])}">'
    height, width = pictures.tokens.shape[-2:]
    one = Pixels(pictures.tokens.reshape(-1, height, width)[index : index + 1], pictures.levels, pictures.mask)
    scale = max(1, min(512, max(128, 1024 // columns)) // width)
    light, dark = (_data(png(colours(one, palette, scale)[0])) for palette in (LIGHT, DARK))
    size = f'width="{width * scale}" height="{height * scale}"'
    return (
        f'<picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img class="pixels" {size} alt="sample {index + 1}" src="{light}"></picture>'
    )


def _data(file: bytes) -> str:
    return f"data:image/png;base64,{b64encode(file).decode()}"


def _filmstrip(film: Filmstrip) -> str:
    rows, frames = film.pictures.tokens.shape[:2]
    cells = []
    if film.frames:
        corner = ["<div></div>"] if film.samples else []
        cells += [*corner, *(f'<div class="label">{escape(frame)}</div>' for frame in film.frames)]
    for row in range(rows):
        if film.samples:
            cells.append(f'<div class="label row-label">{escape(film.samples[row])}</div>')
        cells += [
            f'<div class="tile">{_picture(film.pictures, row * frames + frame, frames)}</div>'
            for frame in range(frames)
        ]
    columns = f"{'max-content ' if film.samples else ''}repeat({frames},minmax(0,{110 if frames < 9 else 84}px))"
    return f'<div class="scroll"><div class="film" style="grid-template-columns:{columns}">{"".join(cells)}</div></div>'


def chart_html(chart: Chart, metrics: Sequence[Mapping[str, Any]]) -> str:
    """A chart with its title, legend and remarks; a remark instead of axes if there is nothing to draw."""
    lines = lines_of(chart, metrics)
    unit = f' <span class="unit">{escape(chart.unit)}</span>' if chart.unit else ""
    heading = f"<h3>{escape(chart.title)}{unit}</h3>"
    if not lines:
        return f'<figure><figcaption>{heading}<p class="text">Nothing was logged.</p></figcaption></figure>'
    entries = []
    if len(lines) > 1:
        for number, line in enumerate(lines):
            swatch = (
                f'<svg viewBox="0 0 22 8" aria-hidden="true"><path class="line s{number % STYLES}" d="M1 4H21"/></svg>'
            )
            entries.append(f"<span>{swatch}{escape(line.name)}</span>")
    if any(line.smoothed for line in lines):
        entries.append("<span>thin: every value, thick: running mean</span>")
    dropped = sum(line.dropped for line in lines)
    if dropped:
        entries.append(f"<span>{dropped} value{'s' if dropped > 1 else ''} not finite, not drawn</span>")
    legend = f'<div class="legend">{"".join(entries)}</div>' if entries else ""
    return f"<figure><figcaption>{heading}{_text(chart.text)}{legend}</figcaption>{chart_svg(chart, lines)}</figure>"


def _table(table: Table) -> str:
    numeric = [
        all(row[column] is None or not isinstance(row[column], str) for row in table.rows) and bool(table.rows)
        for column in range(len(table.columns))
    ]
    kinds = [' class="number"' if right else "" for right in numeric]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, table.columns, strict=True))
    rows = []
    for row in table.rows:
        cells = "".join(f"<td{kind}>{escape(numeral(cell))}</td>" for kind, cell in zip(kinds, row, strict=True))
        emphasis = ' class="emphasis"' if table.emphasis and table.emphasis in row else ""
        rows.append(f"<tr{emphasis}>{cells}</tr>")
    return (
        f'<div class="table scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _texts(texts: Texts) -> str:
    head = "".join(f"<th>{escape(column.title)}{_text(column.text)}</th>" for column in texts.columns)
    rows = []
    for samples in zip(*(column.samples for column in texts.columns), strict=True):
        rows.append("<tr>" + "".join(f"<td>{_masked(sample, texts.mask)}</td>" for sample in samples) + "</tr>")
    return f'<table class="texts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _masked(sample: str, mask: str) -> str:
    block = '<i class="mask" role="img" aria-label="masked"></i>'
    return block.join(map(escape, sample.split(mask))) if mask else escape(sample)


def settings_html(config: Mapping[str, Any]) -> str:
    """The resolved settings, folded; nested names become groups."""
    groups: dict[str, dict[str, Any]] = {"general": {}}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            groups[str(key)] = dict(_leaves(value))
        else:
            groups["general"][str(key)] = value
    drawn = [_group(name, leaves) for name, leaves in groups.items() if leaves]
    count = sum(map(len, groups.values()))
    summary = f"<summary>Settings<small>{count} values, from config.yaml</small></summary>"
    return f'<details>{summary}<div class="settings">{"".join(drawn)}</div></details>'


def _leaves(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _group(name: str, leaves: Mapping[str, Any]) -> str:
    rows = []
    for key, value in leaves.items():
        kind = " none" if value is None or value == "" else ""
        shown = "none" if value is None else str(value) if value != "" else "empty"
        rows.append(
            f'<div class="setting"><span class="key">{escape(key)}</span>'
            f'<span class="value{kind}">{escape(shown)}</span></div>'
        )
    return f'<div class="group"><h3>{escape(name)}</h3>{"".join(rows)}</div>'
