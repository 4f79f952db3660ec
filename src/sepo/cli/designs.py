"""The last stage of `sepo design`: what was drawn, ranked by the reward's oracle, beside what the judge says of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepo.cli.console import say
from sepo.cli.design_drawing import answers_of, drawn, log_likelihood, seconds_of
from sepo.cli.design_options import Design
from sepo.oracles.measurements import write_fasta
from sepo.runs.plain import replacing
from sepo.tasks import Measured
from sepo.tasks.asking import Answers
from sepo.typing import Int, Tokens


@dataclass(frozen=True, eq=False)
class Designs:
    """Distinct sequences, best first. columns: numbers of each, by name; figures: of the set, for summary.json."""

    tokens: Tokens
    columns: dict[str, Tensor]
    figures: dict[str, Any]

    def __len__(self) -> int:
        return len(self.tokens)


def designed(what: Design, task: Measured) -> Designs:
    """The distinct ones of all that is drawn, ranked by the reward's oracle: a judge must not choose what it judges.

    Raises:
        ValueError: the guidance does not fit, or an oracle from outside failed.
    """
    found = drawn(what, task)
    everything = torch.from_numpy(found.array)
    distinct, place = everything.unique(dim=0, return_inverse=True)
    answers = answers_of(what, task, distinct)
    best = answers.reward.argsort(descending=True, stable=True)[: what.num]
    designs, said = distinct[best], answers[best]
    columns = {name: getattr(said, name) for name in ("reward", "judge", "doubt", "other")}
    columns = {name: column for name, column in columns.items() if column is not None} | task.described(designs)
    columns["log_likelihood"] = log_likelihood(what, designs)
    figures = {
        **figures_of(task, designs, said, everything, answers[place]),
        "designs_log_likelihood": float(columns["log_likelihood"].median()),
        "designs_number": len(designs),
        "designs_drawn": len(everything),
        "designs_seconds": seconds_of(what, columns),
        **{f"designs_{name}": cost for name, cost in found.costs.items() if name != "seconds"},
    }
    return Designs(designs, columns, figures)


def figures_of(
    task: Measured, designs: Tokens, said: Answers, everything: Int[Tensor, "drawn length"], said_of_all: Answers
) -> dict[str, float]:
    """The task's metrics of the designs (`designs_`) and of all that was drawn (`drawn_`). Designs are distinct, so
    that `designs_distinct` is the share of what was drawn.
    """
    chosen, rest = task.figures(designs, said), task.figures(everything, said_of_all)
    chosen["distinct"] = rest.pop("distinct")
    return {
        **{f"designs_{name}": value for name, value in chosen.items()},
        **{f"drawn_{name}": value for name, value in rest.items()},
    }


def shortage(what: Design, figures: Mapping[str, Any]) -> str | None:
    """What there is to say where fewer came out than were asked for."""
    number, all_drawn = figures["designs_number"], figures["designs_drawn"]
    if number >= what.num:
        return None
    return (
        f"Only {number} of {what.num} designs: the {all_drawn} sequences that were drawn hold no more distinct ones. "
        f"Draw more (--oversample {2 * what.oversample}), or keep more diversity: a larger --finetune.beta, guidance "
        "with fewer particles or a larger beta."
    )


def write_designs(what: Design, task: Measured) -> tuple[Path, dict[str, Any]]:
    """designs.csv and designs.fasta in the command's folder; the former is returned, with figures of the set."""
    found = designed(what, task)
    missing = shortage(what, found.figures)
    if missing is not None:
        say(f"  [yellow]{missing}[/]")
    sequences = task.measured.alphabet.decode(found.tokens)
    names = [f"design_{rank}" for rank in range(1, len(sequences) + 1)]
    numbers = list(zip(*(column.tolist() for column in found.columns.values()), strict=True))
    path = what.folder / "designs.csv"
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *found.columns, "sequence"])
        for name, row, sequence in zip(names, numbers, sequences, strict=True):
            writer.writerow([name, *(f"{value:.6g}" for value in row), sequence])
    told = [
        " ".join([name, *(f"{key}={value:.4g}" for key, value in zip(found.columns, row, strict=True))])
        for name, row in zip(names, numbers, strict=True)
    ]
    write_fasta(what.folder / "designs.fasta", told, sequences)
    return path, found.figures
