"""What SEPO costs at the size of text models, with random weights: rollouts, and whole steps of SEPOTrainer.

    170M, 424M   SEDD-small and -medium: DiTs that see the time, read as scores, 50,258 ids; float32 weights under bf16
                 autocast, all of them trained; the reference is a copy
    8B           LLaDA-8B: a Llama without its causal mask, 126,464 ids; bf16 weights, LoRA (r = 16 on q, k, v, o), its
                 layers checkpointed; the reference is the network with its adapters off

A group of 8 completions of 256 tokens behind a prompt of 64; one site per evaluation, or 32 ancestral steps. A step is
rollout, reference (beta > 0: all states of all paths are rated) and update (16 states of each path, micro-batches of 2
paths). *Bare*: the same forwards and backwards of the network alone, as a share of the time. *Of peak*: 2 x parameters
x tokens per forward and 3 times that with its backward, against the card's dense bf16 peak; *busy* leaves out what is
not done: products with the token table, and the head where it is not read.

Memory of 8B, at its peak in the update: 16 GB of weights; 0.3 GB for 17 million adapter weights in float32 with their
gradient and Adam's moments; the hidden states before each of 32 layers (32 rows x 320 tokens x 4,096 x 2 bytes each,
2.7 GB in all); what one layer holds while it is computed again; and some four arrays of rows x sites x 126,464 x 4
bytes: log-probabilities, what they are made of, and their gradients, at the sites that are read alone (1 or about 16
per row; at all of them: 5.2 GB each). There is no second copy of the network. Of the DiTs: 20 bytes per parameter
(weight, copy, gradient, two moments), the activations of all layers, and the same arrays.

    python benchmarks/text_scale.py [--sizes 170M 424M 8B] [--device cuda] [--toy]    writes runs/bench/text_scale.json

A run that was stopped goes on where it was. --toy, or a CPU without --no-toy: the same shapes made small; on a CPU all
is float32.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from cells import Cells, Record
from rich.console import Console
from rich.table import Table
from text_sizes import SIZES, TOYS, Size, Weights, network_of
from text_step import Settings, Subject

SAMPLERS, PARTS = ("first_hitting", "ancestral"), ("rollout", "step")
KEY = ("device", "size", "sampler", "part")
Row = tuple[str, int, str, Record | None]
"""Name of the network, its parameters, sampler, and what was measured of them."""


def measured(size: Size, sampler: str, parts: Sequence[str], settings: Settings) -> Iterator[tuple[str, Record]]:
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(size, sampler, settings, folder)
        for part in parts:
            yield part, getattr(subject, part)()
    del subject
    gc.collect()
    if settings.device != "cpu":
        torch.cuda.empty_cache()


def rows_of(part: str, sizes: dict[str, Size], path: Path, settings: Settings) -> Iterator[Row]:
    """What the file holds of this device, and empty rows; parameters are counted without any memory."""
    cells = Cells(path, KEY, {})
    for name, size in sizes.items():
        parameters = Weights.of(network_of(size, "meta")).every
        for sampler in SAMPLERS:
            found = cells.where(device=settings.machine, size=name, sampler=sampler, part=part)
            yield name, parameters, sampler, found[0] if found else None


def table_of(part: str, rows: list[Row], settings: Settings) -> Table:
    wall = "of the wall" if settings.clock.wall else "of the CPU, one thread"
    kind = "resident, whole process" if settings.device == "cpu" else "tensors"
    title = f"{part} on {settings.machine}, torch {torch.__version__}; seconds {wall}; memory: {kind}"
    columns: dict[str, Callable[[Record], str]] = {
        "evaluations": lambda r: f"{r['evaluations']:,.0f}",
        "seconds": lambda r: f"{r['seconds']:.3f}",
        "bare": lambda r: f"{r['bare']:.1%}",
        "of peak": lambda r: "" if r["of_peak"] is None else f"{r['of_peak']:.1%}",
        "busy": lambda r: "" if r["busy"] is None else f"{r['busy']:.1%}",
        "peak memory, GiB": lambda r: f"{r['memory'] / 2**30:.2f}",
    }
    if part == "rollout":
        columns = {"tokens/s": lambda r: f"{r['tokens_per_second']:,.0f}"} | columns
    else:
        columns["with gradient"] = lambda r: f"{r['with_gradient']:,.0f}"
        for name in ("rollout", "reference", "update"):
            columns[f"{name}, s"] = lambda r, name=name: f"{r[name]:.3f}"
    table = Table(title=title)
    for column in ("", "parameters", "sampler", *columns):
        table.add_column(column, justify="left" if column in ("", "sampler") else "right")
    for name, parameters, sampler, record in rows:
        cells = () if record is None else (show(record) for show in columns.values())
        table.add_row(name, f"{parameters:,}", sampler, *cells)
    return table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--toy", action=argparse.BooleanOptionalAction, help="small shapes; default: on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="of everything, after one to warm up; medians are told")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/text_scale.json"))
    given = parser.parse_args(argv)
    if given.repeats < 1:
        parser.error(f"--repeats {given.repeats}: at least 1 is measured.")
    settings = Settings(given.device, given.repeats, torch.get_num_threads())
    toy = given.device == "cpu" if given.toy is None else given.toy
    sizes = {f"{name}, toy": TOYS[name] for name in given.sizes} if toy else {name: SIZES[name] for name in given.sizes}
    for name, size in sizes.items():
        cells = Cells(given.out, KEY, {**asdict(size), "torch": torch.__version__, **asdict(settings)})
        for sampler in SAMPLERS:
            cell = (settings.machine, name, sampler)
            missing = [part for part in PARTS if not cells.has(*cell, part)]
            for part, record in measured(size, sampler, missing, settings) if missing else ():
                cells.put(*cell, part, records=[record])
    console = Console(width=180)
    for part in PARTS:
        console.print(table_of(part, list(rows_of(part, {**sizes, **SIZES}, given.out, settings)), settings))


if __name__ == "__main__":
    main()
