"""The trade of activity against likelihood and k-mers, from the table of terminators.py.

    python benchmarks/terminator_figure.py [--table runs/terminators/table.json] [--output docs/images]

Points of one method at several prices of a nat are joined. Activity is the judge's, which no reward saw.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def weighted(row: str) -> re.Pattern[str]:
    """The rows of one policy or guidance, with any weight or none."""
    return re.compile(rf"{row}(?:, w = ([\d.]+))?")


PRICED = {
    "drakes": (re.compile(r"drakes ([\d.]+)"), "#c8553d"),
    "SEPO": (re.compile(r"sepo ([\d.]+)"), "#1b6ca8"),
    "SEPO, one training": (weighted(r"sepo ([\d.]+)"), "#2a9d8f"),
    "classifier-free guidance": (weighted("classifier-free guidance"), "#b08900"),
    "SEPO .1, 8 segments": (weighted(r"sepo (0\.1), merged"), "#e4572e"),
    "SEPO .03, 8 segments": (weighted(r"sepo (0\.03), merged"), "#f2a65a"),
    "SEPO .1, all states": (weighted(r"sepo (0\.1), all states"), "#111111"),
    "SEPO after SFT, priced to it": (weighted(r"sepo ([\d.]+), priced to sft"), "#d1495b"),
}
"""Methods that were run at several prices, by the names of their rows, and their colours. "SEPO, one training" is
the price that has rows with a weight."""
LEFT_OUT = re.compile(r"sepo .*(?:per step|, sft|0\.03, priced to sft|no doubt).*")
"""Rows near others of the figure; all are in the table."""
UNNAMED = {
    "classifier-free guidance": "w = 3",
    **dict.fromkeys(("sft", "priced to sft", "all states", "per step", "merged"), "w = 0"),
}
"""Weights of rows that do not name theirs."""
OTHERS = "#555555"
AGAINST = {
    "log_likelihood": "log-likelihood under the generator (nats)",
    "kmer_3": "3-mer correlation with the best 1 %",
}


def front(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows of PRICED[name], the likeliest designs last, as a smaller price is farther from the generator."""
    found = [(PRICED[name][0].fullmatch(row["method"]), row) for row in rows]
    priced = [(match.groups(), row) for match, row in found if match]
    if name == "SEPO, one training":
        weighted = {groups[0] for groups, _ in priced if groups[1]}
        priced = [(groups, row) for groups, row in priced if groups[0] in weighted]
    return sorted((row for _, row in priced), key=lambda row: row["log_likelihood"])


def colour(method: str) -> str:
    return next((paint for form, paint in PRICED.values() if form.fullmatch(method)), OTHERS)


def short(method: str) -> str:
    """What tells a row from the others of its line; of rows on no line, the name."""
    if colour(method) == OTHERS:
        return method
    weight = method.rpartition(", ")[2]
    if weight.startswith("w = "):
        return weight
    return UNNAMED.get(weight, weight.removeprefix("sepo ").removeprefix("drakes "))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, panels = plt.subplots(1, len(AGAINST), figsize=(12, 6.5), sharey=True)
    for panel, (name, label) in zip(panels, AGAINST.items(), strict=True):
        for method, (_, paint) in PRICED.items():
            line = front(rows, method)
            panel.plot(
                [row[name] for row in line], [row["activity"] for row in line], color=paint, alpha=0.5, label=method
            )
        for row in rows:
            panel.plot(row[name], row["activity"], "o", color=colour(row["method"]), markersize=5)
            panel.annotate(
                short(row["method"]),
                (row[name], row["activity"]),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=7,
                color=colour(row["method"]),
            )
        panel.set_xlabel(label)
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=7, loc="lower right")
    panels[0].set_ylabel("activity by the judge (log2)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("runs/terminators/table.json"))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    rows = [row for row in json.loads(options.table.read_text()) if not LEFT_OUT.fullmatch(row["method"])]
    draw(rows, options.output / "terminators.png")


if __name__ == "__main__":
    main()
