"""The report: self-contained, escaped, and drawn again from the folder alone."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sepo.runs import (
    Chart,
    Completions,
    Curves,
    Figure,
    Gallery,
    Headline,
    Metric,
    Note,
    Panel,
    Pixels,
    RunFolder,
    Section,
    Series,
    Table,
    TextColumn,
    Texts,
    log_metrics,
    rebuild_report,
    start_run,
    write_completions,
    write_report,
)
from sepo.runs.page import section_html

VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = start_run(tmp_path / "mine", {"seed": 7, "training": {"beta": 0.04, "clip": {"delta": None}}, "note": "<b>"})
    for step in range(4):
        log_metrics(run, step, {"loss": 1 / (step + 1), "reward": step / 4, "epoch": step, "reward_std": 0.1 * step})
    return run


def page_of(run: RunFolder) -> Page:
    page = Page(run.report.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_a_report_of_every_section_is_well_formed_and_asks_nothing_of_the_network(
    run: RunFolder, everything: tuple[Section, ...]
):
    assert write_report(run, everything, "Title", "Sub") == run.report
    page = page_of(run)
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "srcset")]
    assert sources and all((value or "").startswith("data:image/png;base64,") for value in sources)
    assert not [attributes for tag in ("script", "link", "iframe") for attributes in page.all(tag)]
    text = run.report.read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text
    assert all((link["href"] or "").startswith("#section-") for link in page.all("a"))


def test_every_link_of_the_contents_leads_to_a_section(run: RunFolder, everything: tuple[Section, ...]):
    write_report(run, everything)
    page = page_of(run)
    ids = {section["id"] for section in page.all("section")}
    assert {(link["href"] or "#")[1:] for link in page.all("a")} <= ids
    assert len(page.all("a")) == len(everything) - 1 + 1  # the headline has no title; the settings are added


def test_the_report_is_drawn_again_from_the_folder_alone_wherever_it_lies(
    run: RunFolder, tmp_path: Path, everything: tuple[Section, ...]
):
    write_report(run, everything, "Title", "Sub")
    drawn = run.report.read_bytes()
    moved = tmp_path / "elsewhere" / "mine"
    shutil.copytree(run.path, moved)
    (moved / "report.html").unlink()
    assert rebuild_report(moved) == moved / "report.html"
    assert (moved / "report.html").read_bytes() == drawn
    assert str(tmp_path) not in drawn.decode()


def test_what_is_logged_later_appears_when_the_report_is_drawn_again(run: RunFolder):
    write_report(run, [Curves("Training", [Chart("Reward", [Metric("reward")])])])
    log_metrics(run, 9, {"reward": 0.123})
    assert "0.123" not in page_of(run).text
    rebuild_report(run.path)
    assert "0.123" in page_of(run).text


def test_all_text_is_escaped(run: RunFolder):
    evil = '<script>alert("1")</script>&'
    sections = [
        Headline([Figure(evil, evil, before=evil, unit=evil, note=evil)], title=evil, text=evil),
        Gallery(evil, [Panel(evil, Pixels(np.zeros((1, 2, 2), int), 8), [evil], text=evil)], text=evil),
        Curves(evil, [Chart(evil, [Series(evil, [0, 1], [0, 1], [evil, evil])], evil, evil, text=evil)], text=evil),
        Table(evil, [evil], [[evil]], text=evil, emphasis=evil),
        Texts(evil, [TextColumn(evil, [evil], text=evil)], text=evil, mask="alert"),
        Note(evil, evil),
    ]
    run = start_run(run.path, {evil: {evil: evil}, "plain": evil})
    write_report(run, sections, evil, evil)
    page = page_of(run)
    assert not page.all("script")
    assert page.text.count(evil) > 20


def test_without_sections_the_report_shows_curves_completions_and_settings(run: RunFolder):
    for step in (0, 3):
        write_completions(
            run, Completions(step, ["say <b>"] * 2, [f"first of {step}", "x"], {"length": [0.5, None]}, [1.0, -1.0])
        )
    page_file = rebuild_report(run.path)
    page = page_of(run)
    assert page_file == run.report
    titles = [attributes["aria-label"] for attributes in page.all("svg") if attributes.get("class") == "chart"]
    assert [(title or "").split(":")[0] for title in titles] == ["reward", "reward_std", "loss"]
    for expected in (
        "Run mine",
        "first of 0",
        "first of 3",
        "say <b>",
        "2 of 2 completions",
        "beta",
        "0.04",
        "Settings",
    ):
        assert expected in page.text, expected


def test_array_completions_are_shown_briefly(run: RunFolder):
    write_completions(run, Completions(0, [None], [np.arange(64)], {}, [0.0]))
    rebuild_report(run.path)
    assert "[0 1 2 3 4 5 6 7 … 61 62 63] (64)" in page_of(run).text


def test_a_run_that_only_started_has_a_report_of_its_settings(tmp_path: Path):
    run = start_run(tmp_path, {"seed": 7})
    rebuild_report(run.path)
    page = page_of(run)
    assert "seed" in page.text and not [svg for svg in page.all("svg") if svg.get("class") == "chart"]


def test_a_metric_that_was_never_logged_leaves_a_remark(run: RunFolder):
    write_report(run, [Curves("Training", [Chart("Entropy", [Metric("entropy")])])])
    assert "Nothing was logged." in page_of(run).text


def test_a_folder_that_is_not_a_run_has_no_report(tmp_path: Path):
    with pytest.raises(ValueError, match="is not a run"):
        rebuild_report(tmp_path)


def test_pictures_come_in_the_colours_of_day_and_of_night(run: RunFolder):
    write_report(run, [Gallery("g", [Panel("p", Pixels(np.arange(8).reshape(2, 2, 2), 8))])])
    page = page_of(run)
    night = [source for source in page.all("source")]
    assert len(night) == 2 and all("prefers-color-scheme: dark" in (source["media"] or "") for source in night)
    assert {source["srcset"] for source in night}.isdisjoint({image["src"] for image in page.all("img")})
    assert len({image["src"] for image in page.all("img")}) == 2


def test_numbers_stand_to_the_right_in_a_table_and_missing_ones_are_dashes():
    page = Page(section_html(Table("Judges", ["judge", "share"], [["forest", 0.5], ["knn", None]], emphasis="knn")))
    assert [cell.get("class") for cell in page.all("td")] == [None, "number", None, "number"]
    assert [row.get("class") for row in page.all("tr")] == [None, None, "emphasis"]
    assert "0.500" in page.text and "–" in page.text


def test_masks_in_text_are_drawn_as_blocks():
    page = Page(section_html(Texts("t", [TextColumn("before", ["the [M] sat [M]"])], mask="[M]")))
    assert len(page.all("i")) == 2
    assert "[M]" not in page.text and "the  sat" in page.text


def test_a_figure_shows_what_it_was_before():
    page = Page(section_html(Headline([Figure("reward", 0.953, before=0.104), Figure("KL", 11.6, unit="nats")])))
    assert "0.104→0.953" in page.text
    assert "11.6nats" in page.text


def test_curves_that_were_not_finite_say_so(run: RunFolder):
    log_metrics(run, 9, {"reward": float("nan")})
    rebuild_report(run.path)
    assert "1 value not finite, not drawn" in page_of(run).text


def test_a_smoothed_curve_says_so_and_several_curves_have_a_legend():
    noise = np.random.default_rng(0).normal(size=100)
    one = Page(section_html(Curves("c", [Chart("loss", [Series("train", range(100), noise)])])))
    assert "running mean" in one.text and "train" not in one.text
    two = Page(section_html(Curves("c", [Chart("loss", [Series(name, [0, 1], [0, 1]) for name in ("train", "test")])])))
    assert "running mean" not in two.text and "train" in two.text and "test" in two.text


def test_long_completions_are_cut_with_their_length(run: RunFolder):
    write_completions(run, Completions(0, [None], ["x" * 5000], {}, [0.0]))
    rebuild_report(run.path)
    assert "(5,000 characters)" in page_of(run).text
