"""The report: report.html, drawn from the plain files of a run folder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sepo.runs.completions import Completions, brief, completion_steps, read_completions
from sepo.runs.document import Document, load_document, save_document
from sepo.runs.folder import RunFolder, open_run, read_config
from sepo.runs.metrics import metric_names, read_metrics
from sepo.runs.numerals import numeral
from sepo.runs.page import page_html
from sepo.runs.plain import write_text
from sepo.runs.sections import Chart, Curves, Filmstrip, Gallery, Metric, Section, Table, TextColumn, Texts

FIRST = ("reward", "rewards", "kl", "path_kl", "entropy", "diversity", "network_evaluations", "loss", "grad_norm")
ROWS = 12
LONGEST = 600


def write_report(run: RunFolder, sections: Sequence[Section] = (), title: str = "", subtitle: str = "") -> Path:
    """Stores the sections in the run folder, draws report.html from it, and returns the page's path.

    Whatever the sections leave out is added from the folder: curves of all metrics if there are none, a few completions
    if no section shows samples, the settings always.

    Raises:
        ValueError: if a section holds something that is not plain data, or the folder's files are damaged.
    """
    save_document(run, Document(title, subtitle, tuple(sections)))
    return draw_report(run)


def rebuild_report(path: str | Path) -> Path:
    """Draws the report of an existing run folder again, and returns the page's path.

    Raises:
        ValueError: if the folder is not a run or its files are damaged, naming the file and the remedy.
    """
    return draw_report(open_run(path))


def draw_report(run: RunFolder) -> Path:
    """report.html from the plain files of `run`, written whole or not at all."""
    document = load_document(run)
    metrics = read_metrics(run)
    given = tuple(document.sections)
    added: list[Section] = []
    if not any(isinstance(section, Curves) for section in given):
        added += all_curves(metrics)
    if not any(isinstance(section, (Gallery, Filmstrip, Texts)) for section in given):
        added += completion_sections(run)
    config = read_config(run) if run.config.is_file() else {}
    page = page_html(replace(document, sections=(*given, *added)), metrics, config, run.path.resolve().name)
    write_text(run.report, page)
    return run.report


def all_curves(metrics: Sequence[Mapping[str, Any]]) -> list[Section]:
    """One chart per metric that was logged at two steps or more, the reward first; none without such a metric."""
    names = sorted(metric_names(metrics), key=lambda name: (_rank(name), name.count("/")))
    charts = [Chart(name, [Metric(name)]) for name in names if name != "epoch"]
    return [Curves("Curves", charts)] if charts else []


def _rank(name: str) -> int:
    for position, first in enumerate(FIRST):
        if name == first or name.startswith((f"{first}/", f"{first}_")):
            return position
    return len(FIRST)


def completion_sections(run: RunFolder) -> list[Section]:
    """The completions logged first and last side by side, and what the last ones were worth; none without any."""
    steps = completion_steps(run)
    if not steps:
        return []
    last = read_completions(run, steps[-1])
    found: list[Section] = []
    if len(steps) > 1:
        first = read_completions(run, steps[0])
        rows = min(ROWS, len(first), len(last))
        columns = [TextColumn(f"step {entry.step}", _shown(entry.completions, rows)) for entry in (first, last)]
        found.append(Texts("Completions, first and last", columns))
    return [*found, _worth(last)]


def _worth(completions: Completions) -> Table:
    rows = []
    prompted = any(prompt is not None for prompt in completions.prompts)
    shown = _shown(completions.completions, ROWS)
    for row, completion in enumerate(shown):
        prompt = [_short(brief(completions.prompts[row]))] if prompted else []
        rewards = [column[row] for column in completions.rewards.values()]
        rows.append([*prompt, completion, *rewards, completions.advantages[row]])
    names = [*(["prompt"] if prompted else []), "completion", *completions.rewards, "advantage"]
    text = f"{len(shown)} of {len(completions)} completions with their rewards."
    return Table(f"Completions of step {completions.step}", names, rows, text=text)


def _shown(values: Sequence[Any], rows: int) -> list[str]:
    return [_short(brief(value)) for value in values[:rows]]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({numeral(len(text))} characters)"
