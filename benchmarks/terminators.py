"""Every method on plant terminators: what an unseen judge says of its designs, beside what it was rewarded with.

    python benchmarks/terminator_base.py --data FOLDER     # once: oracles and generator
    python benchmarks/terminators.py --data FOLDER [--methods "sepo 0.03" "drakes 0.003"] [--seeds 0 1] [--table]

All start from the same generator, and what is rewarded is so by the same oracle. 256 designs, 64 where they are
guided. A cell is a file of its own: the designs, all sequences that were scored on the way, in order, and what they
cost. Cells that are there are kept, and so are their metrics while the networks that judge are the same; --table only
reads them. `activity` is the judge's median; `second`: the share above the maize assay's best tenth; `log-lik`: of the
generator, a bound in nats, median; k-mers: correlation with the most active hundredth of the table, mean over parts of
64 designs, since counts of few sequences correlate less; `nearest`: letters to the nearest row of the table, median.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from terminator_base import FOLDER, design
from terminator_methods import METHODS, Bench, Outcome
from torch import Tensor

from sepo.cli.design_training import task_of
from sepo.diffusion.likelihood import bound
from sepo.evaluation.sequences import kmer_correlation, nearest_distance
from sepo.ops import Chance
from sepo.oracles import Measurements
from sepo.runs.plain import read_json, write_json
from sepo.tasks import Measured

MOST_SEEDS = 100
DRAWS = 16
"""Noise levels per design in the bound."""
PART = 64
"""Designs whose k-mers are counted together, the least that a row has."""
METRICS = 2
"""Raised when a metric changes its meaning, so that none is remembered as another."""
COLUMNS = {
    "activity": "{:.2f}",
    "reward_median": "{:.2f}",
    "second_share": "{:.2f}",
    "kmer_3": "{:.2f}",
    "kmer_6": "{:.2f}",
    "log_likelihood": "{:.1f}",
    "distinct": "{:.2f}",
    "pairwise_distance": "{:.2f}",
    "nearest_distance": "{:.0f}",
    "calls": "{:,.0f}",
    "evaluations": "{:,.0f}",
    "seconds": "{:,.0f}",
}


@dataclass(frozen=True)
class Cell:
    folder: Path
    method: str
    seed: int

    @property
    def path(self) -> Path:
        return self.folder / f"{self.method.replace(' ', '_').replace(',', '')}.{self.seed}.npz"

    def write(self, found: Outcome, seconds: float, rests_on: dict[str, str]) -> None:
        costs = {"calls": found.calls, "evaluations": found.evaluations, "seconds": seconds}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half_written = self.path.with_suffix(".writing.npz")
        np.savez_compressed(
            half_written, designs=found.designs, scored=found.scored, rests_on=json.dumps(rests_on), **costs
        )
        half_written.replace(self.path)

    def read(self) -> dict[str, Any]:
        with np.load(self.path) as kept:
            return {name: kept[name] for name in kept.files}

    def holds(self, rests_on: dict[str, str]) -> bool:
        """Whether it is there, of this generator and this reward."""
        if not self.path.is_file():
            return False
        with np.load(self.path) as kept:
            return "rests_on" in kept and json.loads(str(kept["rests_on"])) == rests_on


def remembered(cell: Cell, task: Measured, bench: Bench, judges: dict[str, str]) -> dict[str, float]:
    """The metrics of a cell, from the file beside it if the same networks judged then."""
    path, how = cell.path.with_suffix(".json"), {"judges": judges, "metrics": METRICS}
    if path.is_file() and path.stat().st_mtime >= cell.path.stat().st_mtime:
        found = read_json(path)
        if {name: found.pop(name, None) for name in how} == how:
            return found
    found = measured(cell, task, bench)
    write_json(path, {**found, **how})
    return found


def measured(cell: Cell, task: Measured, bench: Bench) -> dict[str, float]:
    """The metrics of a cell's designs, and what they cost."""
    kept = cell.read()
    designs = torch.from_numpy(kept["designs"].astype(np.int64))
    metrics = task.metrics([None] * len(designs), list(designs.numpy()))
    free = torch.ones_like(designs, dtype=torch.bool)
    nats = bound(bench.generator(), designs, free, Chance.of(0, len(designs)), draws=DRAWS)
    costs = {name: float(kept[name]) for name in ("calls", "evaluations", "seconds")}
    return metrics | costs | compared(designs, task.measured) | {"log_likelihood": -float(nats.median())}


def compared(designs: Tensor, table: Measurements) -> dict[str, float]:
    """With the table: as in the metrics of the task, but for k-mers of equally many designs in all rows."""
    best, size = table.tokens[table.activity.topk(len(table) // 100).indices], len(table.alphabet.letters)
    found = {f"kmer_{k}": mean(kmer_correlation(part, best, k, size) for part in designs.split(PART)) for k in (3, 6)}
    return found | {"nearest_distance": float(nearest_distance(designs, table.tokens).double().median())}


def measure(bench: Bench, cells: list[Cell]) -> None:
    rests_on = bench.marks("reward")
    for cell in cells:
        if cell.holds(rests_on):
            continue
        print(f"{cell.method}, seed {cell.seed}", flush=True)
        started = time.process_time()
        found = METHODS[cell.method](bench, cell.seed)
        cell.write(found, time.process_time() - started + found.seconds, rests_on)


def on_disk(folder: Path, rests_on: dict[str, str]) -> list[Cell]:
    """All cells there, of any call, in the order of METHODS."""
    cells = [Cell(folder, method, seed) for method in METHODS for seed in range(MOST_SEEDS)]
    return [cell for cell in cells if cell.holds(rests_on)]


def rows(cells: list[Cell], task: Measured, bench: Bench) -> Iterator[dict[str, Any]]:
    """One row per method, the mean over the seeds that are there."""
    judges = bench.marks("*")
    for method in dict.fromkeys(cell.method for cell in cells):
        found = [remembered(cell, task, bench, judges) for cell in cells if cell.method == method]
        yield (
            {"method": method, "seeds": len(found)}
            | {name: mean(each[name] for each in found) for name in COLUMNS}
            | {"activity_by_seed": [each["activity"] for each in found]}
        )


def table(found: list[dict[str, Any]]) -> Table:
    shown = Table(title="plant terminators: means over seeds")
    shown.add_column("method")
    for name in ("seeds", *COLUMNS):
        shown.add_column(name.replace("_", " "), justify="right")
    for row in found:
        shown.add_row(row["method"], str(row["seeds"]), *(form.format(row[name]) for name, form in COLUMNS.items()))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=FOLDER / "cells")
    parser.add_argument("--table", action="store_true", help="only read what is there")
    options = parser.parse_args()
    what = design(options.data)
    task = task_of(what)
    bench = Bench(what.folder / "generator", task)
    cells = [Cell(options.output, method, seed) for seed in options.seeds for method in options.methods]
    if not options.table:
        measure(bench, cells)
    found = list(rows(on_disk(options.output, bench.marks("reward")), task, bench))
    write_json(options.output.parent / "table.json", found)
    Console(width=190).print(table(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
