"""Over-optimisation: what the reward's oracle and the judge say of the sequences that were scored along a run.

    python benchmarks/terminator_gap.py --data FOLDER [--methods "sepo 0.03" "sepo 0.03, no doubt"]

Medians over each sixth of the reward calls of seed 0, and the mean disagreement of the reward's two networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from terminator_base import FOLDER, design
from terminators import Cell

from sepo.cli.design_training import task_of
from sepo.runs.plain import write_json
from sepo.tasks import Measured

PARTS = 6


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["sepo 0.03", "drakes 0.003", "diffu_grpo", "elite_replay"])
    options = parser.parse_args()
    task = task_of(design(options.data, doubt=0.0))
    shown, found = Table(title="median by the reward's oracle / the judge, along the reward calls"), {}
    for column in ("method", *(f"{part + 1}/{PARTS}" for part in range(PARTS)), "doubt, first and last"):
        shown.add_column(column)
    for method in options.methods:
        cell = Cell(FOLDER / "cells", method, 0)
        if not cell.path.is_file():
            continue
        parts = found[method] = along(cell, task)
        values = [f"{part['reward']:.2f} / {part['judge']:.2f}" for part in parts]
        shown.add_row(method, *values, f"{parts[0]['doubt']:.2f} {parts[-1]['doubt']:.2f}")
    write_json(FOLDER / "gap.json", found)
    Console(width=150).print(shown)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
