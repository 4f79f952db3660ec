"""The tables of docs/design_benchmarks.md, from what the benchmarks of sequence design have written.

python benchmarks/design_tables.py                                   prints them
python benchmarks/design_tables.py --into docs/design_benchmarks.md   fills what is between <!-- NAME --> and <!-- / -->

Terminators: benchmarks/terminators.py --table and terminator_gap.py; Ehrlich functions: benchmarks/ehrlich.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from cells import Record
from markdown_tables import Tables, add_options, show, table

METHODS = {
    "pretrained": "pretrained",
    "best of 8": "best of 8",
    "smc": "SMC, 16 particles",
    "tds": "TDS, 16 particles",
    "svdd 8": "SVDD, 8 candidates",
    "svdd 8, learned value": "SVDD, 8 candidates, learned value",
    "classifier guidance": "classifier guidance",
    "classifier-free guidance": "classifier-free guidance",
    "genetic": "genetic algorithm",
    "elite_replay": "elite replay",
    "elite_replay, svdd": "elite replay of rollouts by SVDD",
    "diffu_grpo": "diffu-GRPO (no KL)",
    "trajectory_pg": "trajectory policy gradient",
    "sepo_released": "SEPO as released",
    "drakes 0.003": "DRAKES, alpha 0.003 (gradient of the reward)",
    "drakes 0.03": "DRAKES, alpha 0.03",
    "drakes 0.3": "DRAKES, alpha 0.3",
    "sepo 0": "**SEPO**, no price",
    "sepo 0, no doubt": "**SEPO**, no price, no doubt",
    "sepo 0, all states": "**SEPO**, no price, all states",
    "sepo 0.01": "**SEPO**, beta 0.01",
    "sepo 0.03, one use": "**SEPO**, beta 0.03, each collection used once",
    "sepo 0.03, flow": "**SEPO**, beta 0.03, gradient flow",
    "sepo 0.03": "**SEPO**, beta 0.03",
    "sepo 0.03, no doubt": "**SEPO**, beta 0.03, no doubt",
    "sepo 0.03 and elites": "**SEPO**, beta 0.03, and elites",
    "sepo 0.03, merged": "**SEPO**, beta 0.03, path merged into 8 segments",
    "sepo 0.03, all states": "**SEPO**, beta 0.03, all states",
    "sepo 0.03, all states, per step": "**SEPO**, beta 0.03, all states, ratio and clip per step",
    "sepo 0.1": "**SEPO**, beta 0.1",
    "sepo 0.1, merged": "**SEPO**, beta 0.1, path merged into 8 segments",
    "sepo 0.1, all states": "**SEPO**, beta 0.1, all states",
    "sepo 0.3": "**SEPO**, beta 0.3",
    "sepo 0.1, sft": "**SEPO**, beta 0.1, after SFT",
    "sepo 0.1, priced to sft": "**SEPO**, beta 0.1, after SFT and priced to it",
    "sepo 0.1, priced to sft, merged": "**SEPO**, beta 0.1, path merged, after SFT and priced to it",
    "sepo 0.03, priced to sft, all states": "**SEPO**, beta 0.03, after SFT and priced to it, all states",
}
"""Rows of terminator_methods.py in the order of the page, and what they are called there; those with a weight follow
theirs."""
COSTS = ("calls", "evaluations", "seconds")
FUNCTIONS = {
    "c4": "32 letters, 4 motifs",
    "c2": "32 letters, 2 motifs",
    "c4 q2": "the first, 2 levels",
    "L64 c2": "64 letters, 2 motifs",
}
SEARCHES = {
    "SEPO, elites and search": "**SEPO**, elites and search",
    "elite replay": "elite replay alone",
    "SEPO": "SEPO alone",
    "pygad, chain samples": "pygad from samples of the chain",
    "pygad, one solution": "pygad from one solution",
    "GA, chain samples": "GA of the paper from samples of the chain",
    "GA, one solution": "GA of the paper from one solution",
    "random search": "samples of the chain",
}


def title(method: str) -> str:
    row, _, weight = method.partition(", w = ")
    return METHODS[row] + (f", w = {weight}" if weight else "")


def place(method: str) -> tuple[int, float]:
    row, _, weight = method.partition(", w = ")
    return list(METHODS).index(row), float(weight or 0)


def kind(method: str) -> str:
    """The table that a row stands in: rivals, sepo, or sft where SEPO begins at the most active sequences."""
    name = title(method)
    if not name.startswith("**SEPO**"):
        return "rivals"
    return "sft" if "after SFT" in name else "sepo"


def terminators(rows: Sequence[Record], shown: str) -> str:
    """What designs are worth, and what they cost: means over seeds, and the range of activity. shown: the kind of rows
    that are."""
    head = [
        *("method", "seeds", "activity (judge)", "reward", "second assay", "3- / 6-mers", "log-likelihood"),
        *("distinct", "Hamming", "nearest", "reward calls", "evaluations", "CPU s"),
    ]
    lines = []
    for row in sorted((each for each in rows if kind(each["method"]) == shown), key=lambda row: place(row["method"])):
        known = row["activity_by_seed"]
        spread = f" ({min(known):.2f} to {max(known):.2f})" if len(known) > 1 else ""
        lines.append(
            [
                title(row["method"]),
                str(row["seeds"]),
                f"{row['activity']:.2f}{spread}",
                f"{row['reward_median']:.2f}",
                f"{row['second_share']:.2f}",
                f"{row['kmer_3']:.2f} / {row['kmer_6']:.2f}",
                f"{row['log_likelihood']:.0f}",
                f"{row['distinct']:.2f}",
                *(f"{row[name]:.0f}" for name in ("pairwise_distance", "nearest_distance")),
                *(f"{row[name]:,.0f}" for name in COSTS),
            ]
        )
    return table(head, lines)


def gap(found: dict[str, Any]) -> str:
    """How far the reward's oracle is ahead of the judge, the least first."""
    lines = []
    for method, known in found.items():
        first, *_, last = known["parts"]
        ahead = last["reward"] - last["judge"]
        ends = (f"{part['reward']:.2f} / {part['judge']:.2f}" for part in (first, last))
        lines.append((ahead, [title(method), str(known["seeds"]), *ends, f"{ahead:.2f}"]))
    head = ["method", "seeds", "first sixth", "last sixth", "reward ahead of judge"]
    return table(head, [line for _, line in sorted(lines, key=lambda line: line[0])])


def ehrlich(records: Sequence[Record]) -> str:
    """Best value after each budget, median (mean); the rest of the last calls."""
    budgets = sorted({record["calls"] for record in records})
    head = [
        *("function", "method", "runs (instances)", *(f"{calls:,}" for calls in budgets)),
        *("solved", "mean", "feasible", "CPU s"),
    ]
    lines = []
    for function, shown in FUNCTIONS.items():
        for method, name in SEARCHES.items():
            found = [each for each in records if (each["function"], each["method"]) == (function, method)]
            by_budget = [[each for each in found if each["calls"] == calls] for calls in budgets]
            if not found:
                continue
            best, last = [[each["best"] for each in runs] for runs in by_budget], by_budget[-1]
            instances = len({each["instance"] for each in last})
            lines.append(
                [
                    *(shown, name, f"{len(last)} ({instances})"),
                    *(f"{median(values):.2f} ({mean(values):.2f})" for values in best),
                    str(sum(value == 1 for value in best[-1])),
                    *(f"{mean(each[key] for each in last):.2f}" for key in ("mean", "feasible")),
                    f"{mean(each['cpu_seconds'] for each in last):.0f}",
                ]
            )
    return table(head, lines)


def tables(folder: Path) -> Tables:
    def read(path: str) -> Any:
        return json.loads((folder / path).read_text())

    return {
        **{
            f"terminators {each}": partial(lambda each: terminators(read("terminators/table.json"), each), each)
            for each in ("rivals", "sepo", "sft")
        },
        "gap": lambda: gap(read("terminators/gap.json")),
        "ehrlich": lambda: ehrlich(read("ehrlich/benchmark.json")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    add_options(parser)
    options = parser.parse_args()
    show(tables(options.folder), options)


if __name__ == "__main__":
    main()
