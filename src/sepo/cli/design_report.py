"""The report of `sepo design`: what came of it, how far its oracles can be trusted, the best designs."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sepo.cli.console import CONSOLE, seconds
from sepo.cli.design_options import Design
from sepo.cli.designs import shortage
from sepo.cli.oracles import Quality
from sepo.oracles.findings import Finding
from sepo.runs import (
    Chart,
    Curves,
    Figure,
    Headline,
    Note,
    RunFolder,
    Section,
    Series,
    Table,
    curve,
    read_metrics,
    write_report,
)
from sepo.tasks import Measured

SHOWN = 20
FIGURES = {
    "activity": "activity by the judge, median",
    "reward_median": "reward, median",
    "doubt": "doubt, mean",
    "second_share": "share above the second assay's best tenth of the table",
    "distinct": "share of what was drawn that is distinct",
    "pairwise_distance": "distance between two, mean, in letters",
    "nearest_distance": "distance to the nearest of the table, median, in letters",
    "kmer_3": "3-mers, correlation with the table's best",
    "kmer_6": "6-mers, correlation with the table's best",
    "motif_correlation": "motifs, rank correlation with the table's best",
    "log_likelihood": "log-likelihood under the generator, median, in nats (a lower bound)",
}
"""Of the designs and of all that was drawn."""
COSTS = {
    "drawn": "sequences drawn",
    "network_evaluations": "network evaluations of drawing",
    "reward_calls": "sequences that the guidance asked its reward about",
    "effective_sample_size": "effective particles of a population, mean",
}


def report(what: Design, task: Measured, qualities: Mapping[str, Quality], summary: Mapping[str, Any]) -> Path:
    """report.html in the command's folder."""
    sections: list[Section] = [
        Headline(_headline(summary)),
        *_missing(what, summary),
        _of_designs(summary),
        _costs(summary),
        *_compared(what, summary),
        _trust(what, qualities),
        _curves(what.folder / "tuned"),
        _best(what.folder / "designs.csv"),
        Note("Odd rows of the table", _odd(task.measured.findings)),
        Table("Wall time", ["stage", "took"], [[stage, seconds(took)] for stage, took in _times(summary)]),
    ]
    before = f"{summary['activity_before']:.2f} -> " if "activity_before" in summary else ""
    CONSOLE.print(f"  judge: {before}{summary['designs_activity']:.2f}")
    return write_report(RunFolder(what.folder), sections, title="Designed sequences")


def _headline(summary: Mapping[str, Any]) -> list[Figure]:
    """Before is a sample of the generator, where it was judged."""
    before = summary.get("activity_before")
    figures = [
        Figure("activity, by the judge", summary["designs_activity"], before, note="median of the designs"),
        Figure("reward", summary["designs_reward_median"], summary.get("reward_median_before"), note="median"),
        Figure("distance to the table", summary["designs_nearest_distance"], unit="letters", note="median, nearest"),
        Figure("distinct", summary["designs_distinct"], note="share of what was drawn"),
    ]
    if "path_kl" in summary:
        figures.append(Figure("path KL", summary["path_kl"], unit="nats", note="to the model before, per sequence"))
    return figures


def _missing(what: Design, summary: Mapping[str, Any]) -> list[Section]:
    text = shortage(what, summary)
    return [] if text is None else [Note("Fewer designs than asked for", text)]


def _of_designs(summary: Mapping[str, Any]) -> Table:
    named = [(text, summary.get(f"designs_{key}"), summary.get(f"drawn_{key}")) for key, text in FIGURES.items()]
    rows = [
        [text, None if key == "distinct" else of_designs, of_designs if key == "distinct" else of_all]
        for key, (text, of_designs, of_all) in zip(FIGURES, named, strict=True)
        if of_designs is not None
    ]
    text = (
        f"{summary['designs_number']} designs, the best by the reward's oracle of the distinct ones among "
        f"{summary['designs_drawn']} sequences that were drawn."
    )
    return Table("The designs", ["", "designs", "all that was drawn"], rows, text=text)


def _costs(summary: Mapping[str, Any]) -> Table:
    found = [(text, summary.get(f"designs_{key}")) for key, text in COSTS.items()]
    return Table("What drawing them took", ["", ""], [[text, value] for text, value in found if value is not None])


def _compared(what: Design, summary: Mapping[str, Any]) -> list[Section]:
    rows = [
        [name.replace("_", " "), summary.get(f"{name}_before"), value]
        for name, value in summary.items()
        if f"{name}_before" in summary and isinstance(value, (int, float))
    ]
    text = f"Samples of the fine-tuned generator, without guidance. Before is {_before(what)}."
    return [Table("Samples before and after", ["", "before", "after"], rows, text=text)] if rows else []


def _before(what: Design) -> str:
    given = what.finetune or {}
    named = given.get("reference")
    if named and not given.get("sync_ref_model"):
        return f"the reference, {named}"
    moved = what.sft is not None and (given.get("sync_ref_model") or "reference" in given)
    return "the generator after SFT" if moved else "the generator"


def _trust(what: Design, qualities: Mapping[str, Quality]) -> Table:
    return Table(
        "How far the oracles can be trusted",
        ["oracle", "fitted to, or given", "correlation on unseen groups", "of so many sequences"],
        [
            [name, what.outside.get(name, f"{each.sequences} sequences"), _correlation(each), each.tested]
            for name, each in qualities.items()
        ],
        text="Pearson's, with measurement, on groups that no oracle was fitted to here. What a given one has seen "
        "is not known: its correlation may be too good.",
    )


def _correlation(quality: Quality) -> float | str | None:
    broken = quality.unseen is not None and math.isnan(quality.unseen)
    return quality.worth if broken else quality.unseen


def _curves(tuned: Path) -> Curves:
    """Along fine-tuning: where the reward goes on rising and the judge does not, the oracle is being fooled."""
    records = read_metrics(RunFolder(tuned))
    believed, said = (curve(records, key) for key in ("reward_median", "activity"))
    both = [Series("reward's oracle", *believed), Series("judge", *said)]
    return Curves("Along fine-tuning", [Chart("What the reward believes, and what the judge says", both)])


def _best(path: Path) -> Table:
    with open(path, encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    title = f"The best {min(SHOWN, len(rows))} designs"
    return Table(title, head, rows[:SHOWN], text="Ranked by the reward's oracle.")


def _odd(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{each}{'' if each.left_out else ' (used all the same)'}" for each in findings) or "None."


def _times(summary: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The stages that took time here, in their order: of one that was kept, when it was made."""
    stages = {"oracles": "oracles", "generator": "pretrain", "SFT": "sft", "SEPO": "finetune", "designs": "designs"}
    found = {stage: summary.get(f"{name}_seconds") for stage, name in stages.items()}
    return [(stage, took) for stage, took in found.items() if took is not None]
