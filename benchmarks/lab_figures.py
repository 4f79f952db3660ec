"""The figures of the laboratory, from its records: variance against evaluations, and the way to the optimum.

python benchmarks/lab_figures.py      reads runs/lab/*.json, writes runs/lab/gradient_quality.png and convergence.png,
                                      and measured.png if there are measured worlds
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from lab_tables import MEASURED, SHIPPED

OURS, OTHERS, MUTED = "#0f766e", "#b45309", "#9ca3af"
ALWAYS = {"sepo": "-", "sepo_released": "-.", "drakes": "--", "elite_replay": ":"}
"""Methods that have a colour wherever they end, and their lines."""
FIGURES = (
    ("gradient_quality", SHIPPED, "gradient_quality"),
    ("convergence", SHIPPED, "convergence"),
    ("convergence", MEASURED, "measured"),
)
"""Records, worlds, picture."""


def colour(method: str) -> str:
    if method == "sepo":
        return OURS
    return "#5eaaa2" if method.startswith("sepo") and method != "sepo_released" else OTHERS


def gradient_figure(records: list[dict[str, Any]], path: Path) -> None:
    """On policy, pretrained network: relative bias against variance x evaluations, a panel per world and process."""
    found = [each for each in records if each["network"] == "pretrained" and each["updates"] == 0]
    panels = list(dict.fromkeys((each["world"], each["process"]) for each in found))
    figure, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(15, 9), squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for each in (record for record in found if (record["world"], record["process"]) == panel):
            x, y = each["variance"] * each["evaluations"], max(each["relative_bias"], 0.01)
            axis.scatter(x, y, color=colour(each["method"]), s=28, zorder=3)
            axis.annotate(
                each["method"], (x, y), fontsize=6, xytext=(3, 3), textcoords="offset points", color="#374151"
            )
        axis.set(xscale="log", yscale="log", title=f"{panel[0]}, {panel[1]}")
        axis.set_xlabel("variance x network evaluations")
        axis.set_ylabel("relative bias (0.01: or less)")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def convergence_figure(records: list[dict[str, Any]], path: Path, shown: int = 9) -> None:
    """Total variation to the optimum against evaluations; the methods that end nearest, and those that are `ALWAYS`."""
    panels = list(dict.fromkeys((each["world"], each["process"]) for each in records))
    figure, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(15, 9), squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        here = [each for each in records if (each["world"], each["process"]) == panel]
        here.sort(key=lambda each: each["total_variation"])
        named = {each["method"] for each in here[:shown]} | {*ALWAYS}
        for each in here:
            runs = each["runs"]
            length = min(len(run) for run in runs)
            x = [sum(run[k]["evaluations"] for run in runs) / len(runs) for k in range(length)]
            y = [sum(run[k]["total_variation"] for run in runs) / len(runs) for k in range(length)]
            known = each["method"] in named
            strong = each["method"] == "sepo"
            axis.plot(
                x,
                y,
                color=colour(each["method"]) if known else MUTED,
                alpha=1 if known else 0.35,
                linestyle=ALWAYS.get(each["method"], "-"),
                linewidth=2.6 if strong else 1.2,
                label=each["method"] if known else None,
            )
        axis.set(yscale="log", title=f"{panel[0]}, {panel[1]}", xlabel="network evaluations")
        axis.set_ylabel("total variation to the optimum")
        axis.legend(fontsize=6)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/lab"))
    folder = parser.parse_args().folder
    for name, worlds, picture in FIGURES:
        path = folder / f"{name}.json"
        records = json.loads(path.read_text()) if path.is_file() else []
        if here := [each for each in records if each["world"] in worlds]:
            draw = gradient_figure if name == "gradient_quality" else convergence_figure
            draw(here, folder / f"{picture}.png")
            print(f"wrote {folder / picture}.png")


if __name__ == "__main__":
    main()
