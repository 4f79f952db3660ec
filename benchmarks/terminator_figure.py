"""The trade of activity against likelihood and k-mers, from the table of terminators.py.

    python benchmarks/terminator_figure.py [--table runs/terminators/table.json] [--output docs/images]

Points of one method at several prices of a nat are joined. Activity is the judge's, which no reward saw.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FRONTS = ("sepo", "drakes")
"""Methods that were run at several prices, by the first word of their rows."""
COLOURS = {"sepo": "#1b6ca8", "drakes": "#c8553d"}
AGAINST = {
    "log_likelihood": "log-likelihood under the generator (nats)",
    "kmer_3": "3-mer correlation with the best 1 %",
}


def front(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows `name price`, in order of the price."""
    priced = [row for row in rows if row["method"].split()[0] == name and row["method"].count(" ") == 1]
    return sorted((row for row in priced if "," not in row["method"]), key=lambda row: float(row["method"].split()[1]))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, panels = plt.subplots(1, len(AGAINST), figsize=(11, 4.6), sharey=True)
    for panel, (name, label) in zip(panels, AGAINST.items(), strict=True):
        for method in FRONTS:
            line = front(rows, method)
            panel.plot([row[name] for row in line], [row["activity"] for row in line], color=COLOURS[method], alpha=0.5)
        for row in rows:
            colour = COLOURS.get(row["method"].split()[0], "#555555")
            panel.plot(row[name], row["activity"], "o", color=colour, markersize=5)
            panel.annotate(
                row["method"], (row[name], row["activity"]), xytext=(4, 3), textcoords="offset points", fontsize=7
            )
        panel.set_xlabel(label)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("activity by the judge (log2)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("runs/terminators/table.json"))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    draw(json.loads(options.table.read_text()), options.output / "terminators.png")


if __name__ == "__main__":
    main()
