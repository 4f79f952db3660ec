"""Every published method on the digits, from the same pretrained model, for as many network evaluations.

    python benchmarks/digits_methods.py --pretrained runs/demo/pretrained [--budget 115000]

What each ends with: mean reward, the share that unseen judges accept, diversity over that of real threes, path KL,
evaluations. Methods keep their own defaults; those that price nats themselves do so at 0.02, as the recipe does. Every
cell is a run folder of its own; cells that are done are kept. The figures are in methods.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sepo.cli import finetune
from sepo.cli.parsing import parse
from sepo.objectives.algorithms import ALGORITHMS
from sepo.runs import read_summary
from sepo.runs.folder import RunFolder
from sepo.runs.plain import write_json

STEPS = 16
"""Of a rollout; the reference reads as many."""
UPDATE = {"sepo": STEPS, "trajectory_pg": STEPS, "step_merge": 8, "trace_rl": 2, "just_grpo": STEPS, "diffu_grpo": 1}
UPDATE |= {"coupled_grpo": 3, "uni_grpo": 1, "wd1": 1, "espo": 4, "spg": 2, "vrpo": 16, "sdpo": 2, "wdce": 16}
UPDATE |= {"trajectory_balance": STEPS}
"""Evaluations of an update per sequence, the reference's reading of the same views included."""
BETA = {"wdce": 0.02, "trajectory_balance": 0.02}
UNPRICED = ("vrpo", "sdpo")
LEFT_OUT = ("sepo_released",)
"""4,608 evaluations of neighbours per sequence and update: 58 million for 100 updates of 128 sequences."""
COLUMNS = ("reward_after", "judge_agreement", "diversity_ratio", "path_kl", "network_evaluations")


def words(name: str, base: Path, folder: Path, budget: int, batch: int) -> list[str]:
    priced = 0 if name in UNPRICED else 1
    each = STEPS * (1 + priced) + UPDATE[name]
    steps = max(budget // (batch * each), 1)
    found = ["digits", "--model", str(base), "--output_dir", str(folder), "--max_steps", str(steps)]
    found += ["--algorithm", name, "--states", "16", "--scale_rewards", "group", "--save_strategy", "no"]
    if name in BETA:
        found += ["--beta", "0", "--algorithm_kwargs.beta", str(BETA[name])]
    elif name in UNPRICED:
        found += ["--beta", "0"]
    return found


def cell(name: str, base: Path, folder: Path, budget: int, batch: int) -> dict[str, Any]:
    run = RunFolder(folder)
    if not run.summary.is_file():
        done = finetune.finetune(parse(finetune.GRAMMAR, words(name, base, folder, budget, batch)))
        if not done.complete:
            raise SystemExit(130)
        run.summary.write_text(json.dumps(done.summary))
    return {"method": name} | read_summary(run)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--pretrained", type=Path, required=True, help="the model that all start from")
    asked.add_argument("--methods", nargs="+", default=["sepo", *(each for each in ALGORITHMS if each in UPDATE)])
    asked.add_argument("--budget", type=int, default=115_000, help="network evaluations of each run")
    asked.add_argument("--output", type=Path, default=Path("runs/digits_methods"))
    options = asked.parse_args()
    found = []
    for name in options.methods:
        found.append(cell(name, options.pretrained, options.output / name, options.budget, 128))
        write_json(options.output / "methods.json", found)
    shown = Table(title=f"from {options.pretrained}, about {options.budget:,} network evaluations each")
    for column in ("method", *COLUMNS):
        shown.add_column(column.replace("_", " "), justify="left" if column == "method" else "right")
    for each in sorted(found, key=lambda row: -row["reward_after"]):
        shown.add_row(each["method"], *(f"{each.get(column, float('nan')):.4g}" for column in COLUMNS))
    Console().print(shown)


if __name__ == "__main__":
    main()
