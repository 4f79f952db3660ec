"""What beta buys on the digits: reward, unseen judges and diversity against path KL, over seeds.

    python benchmarks/digits_front.py --betas 0 0.01 0.02 0.05 0.1 --seeds 0 1 2

Every cell is a run folder of its own; cells that are done are kept, so that the benchmark can be stopped and gone on
with. The figures are in front.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from sepo.cli import pretrain
from sepo.cli.demo import Demo, cell, pretrain_words
from sepo.cli.parsing import parse
from sepo.runs import RunFolder
from sepo.runs.plain import write_json

COLUMNS = ("reward_after", "judge_agreement", "diversity_ratio", "path_kl", "network_evaluations", "finetune_seconds")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--betas", type=float, nargs="+", default=[0.0, 0.01, 0.02, 0.03, 0.05, 0.1])
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--output", type=Path, default=Path("runs/digits_front"))
    asked.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs")
    options = asked.parse_args()
    cells: dict[float, list[dict[str, Any]]] = {beta: [] for beta in options.betas}
    for seed in options.seeds:
        what = Demo(output=str(options.output / f"seed_{seed}"), seed=seed, quick=options.quick)
        base = pretrained(what)
        for beta in options.betas:
            cells[beta].append({"seed": seed, "beta": beta, **cell(what, base, beta)})
            write_json(options.output / "front.json", [each for found in cells.values() for each in found])
    Console().print(table(cells))


def pretrained(what: Demo) -> Path:
    """The model that all runs of a seed start from."""
    base = Path(what.output) / "pretrained"
    if (
        not RunFolder(base).summary.is_file()
        and not pretrain.pretrain(parse(pretrain.GRAMMAR, pretrain_words(what, base))).complete
    ):
        raise SystemExit(130)
    return base


def table(cells: dict[float, list[dict[str, Any]]]) -> Table:
    """Means over the seeds, and the range of what varies."""
    shown = Table(title=f"means over {len(next(iter(cells.values())))} seeds (lowest to highest)")
    for name in ("beta", *COLUMNS):
        shown.add_column(name.replace("_", " "), justify="right")
    for beta, found in cells.items():
        values = [[each[name] for each in found] for name in COLUMNS]
        shown.add_row(f"{beta:g}", *(f"{mean(each):.3g} ({min(each):.3g} to {max(each):.3g})" for each in values))
    return shown


if __name__ == "__main__":
    main()
