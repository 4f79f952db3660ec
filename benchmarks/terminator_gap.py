"""Over-optimisation: what the reward's oracle and the judge say of the sequences that were scored along a run.

    python benchmarks/terminator_gap.py --data FOLDER [--methods "sepo 0.03" "sepo 0.03, no doubt"]

Medians over each sixth of the reward calls, and the mean disagreement of the reward's two networks; means over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from terminator_base import FOLDER, design
from terminator_bench import Bench
from terminators import Cell, on_disk

from sepo.cli.design_training import task_of
from sepo.runs.plain import write_json
from sepo.tasks import Measured

PARTS = 6
TRAINED = (
    "elite_replay",
    "diffu_grpo",
    "trajectory_pg",
    "drakes 0.003",
    "sepo 0",
    "sepo 0, no doubt",
    "sepo 0, all states",
    "sepo 0.03",
    "sepo 0.03, merged",
    "sepo 0.03, all states, per step",
    "sepo 0.1",
    "sepo 0.1, merged",
    "sepo 0.1, all states",
    "sepo 0.1, priced to sft",
    "sepo 0.03, priced to sft, all states",
)


def along(cell: Cell, task: Measured) -> list[dict[str, float]]:
    scored = torch.from_numpy(cell.read()["scored"].astype(np.int64))
    reward, judge = task.oracle("reward"), task.oracle("judge")
    return [
        {
            "reward": float(reward.forward(part).median()),
            "judge": float(judge(part).median()),
            "doubt": float(reward.spread(part).mean()),
        }
        for part in scored.chunk(PARTS)
    ]


def over_seeds(runs: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    return [{name: mean(part[name] for part in parts) for name in parts[0]} for parts in zip(*runs, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=TRAINED)
    options = parser.parse_args()
    what = design(options.data, doubt=0.0)
    task = task_of(what)
    shown, found = Table(title="median by the reward's oracle / the judge, along the reward calls"), {}
    for column in ("method", *(f"{part + 1}/{PARTS}" for part in range(PARTS)), "doubt, first and last"):
        shown.add_column(column)
    cells = on_disk(FOLDER / "cells", Bench(what.folder / "generator", task).marks("reward"))
    for method in options.methods:
        runs = [along(cell, task) for cell in cells if cell.method == method]
        if not runs:
            continue
        parts = over_seeds(runs)
        found[method] = {"seeds": len(runs), "parts": parts}
        values = [f"{part['reward']:.2f} / {part['judge']:.2f}" for part in parts]
        shown.add_row(method, *values, f"{parts[0]['doubt']:.2f} {parts[-1]['doubt']:.2f}")
    write_json(FOLDER / "gap.json", found)
    Console(width=150).print(shown)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
