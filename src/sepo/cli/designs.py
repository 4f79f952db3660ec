"""The last stage of `sepo design`: samples ranked by the reward's oracle, beside what the judge says of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepo.cli.console import CONSOLE, seconds
from sepo.cli.design_options import Design
from sepo.cli.guiding import Opened, guidance_for
from sepo.cli.opening import chosen_sampler
from sepo.cli.oracles import Quality
from sepo.cli.samples import draw_samples, rows_for
from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.sequences import nearest_distance
from sepo.oracles import Ensemble
from sepo.oracles.findings import Finding
from sepo.oracles.measurements import write_fasta
from sepo.runs import (
    Chart,
    Curves,
    Figure,
    Headline,
    Note,
    RunFolder,
    Section,
    Series,
    Table,
    curve,
    read_metrics,
    write_report,
)
from sepo.samplers.guided import UNREWARDED, needs_kernel
from sepo.tasks import Measured
from sepo.training.prompts import Unconditional

DRAWN = 4
"""Samples for each design that is kept."""
SHOWN = 20


@dataclass(frozen=True, eq=False)
class Designs:
    """Distinct sequences, best first. columns: numbers of each, by name."""

    tokens: Tensor
    columns: dict[str, Tensor]


def designed(asked: Design, task: Measured, policy: Denoiser) -> Designs:
    """The distinct ones of all that is drawn, ranked by the reward's oracle: a judge must not choose what it judges."""
    assert policy.length is not None
    options = dict(asked.guidance_kwargs or {})
    if asked.guidance in UNREWARDED and options.get("unconditional") is None:
        options["unconditional"] = asked.base  # designs have no prompt that could be masked
    tuned = Opened(str(asked.folder / "tuned"), policy)
    guidance = guidance_for(asked.guidance, options, None, task, tuned)
    sampler = chosen_sampler(policy, None, None, kernel=needs_kernel(asked.guidance, options))
    number = DRAWN * asked.num if guidance is None else -(-DRAWN * asked.num // guidance.together) * guidance.together
    rows, prompts = rows_for(None, number), Unconditional(policy.length)
    samples = draw_samples(policy, sampler, prompts, rows, asked.seed, guidance=guidance)
    tokens = torch.from_numpy(samples.tokens).unique(dim=0)
    reward = task.oracle("reward")
    columns = {"reward": reward(tokens), "judge": task.oracle("judge")(tokens)}
    if isinstance(reward, Ensemble):
        columns["doubt"] = reward.spread(tokens)
    if task.has_other:
        columns["other"] = task.oracle("other")(tokens)
    columns["nearest_distance"] = nearest_distance(tokens, task.measured.tokens)
    best = columns["reward"].argsort(descending=True)[: asked.num]
    return Designs(tokens[best], {name: column[best] for name, column in columns.items()})


def write_designs(asked: Design, task: Measured, policy: Denoiser) -> Path:
    """designs.csv and designs.fasta in the command's folder; the former is returned."""
    found = designed(asked, task, policy)
    sequences = task.measured.alphabet.decode(found.tokens)
    names = [f"design_{rank}" for rank in range(1, len(sequences) + 1)]
    numbers = list(zip(*(column.tolist() for column in found.columns.values()), strict=True))
    path = asked.folder / "designs.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *found.columns, "sequence"])
        for name, row, sequence in zip(names, numbers, sequences, strict=True):
            writer.writerow([name, *(f"{value:.6g}" for value in row), sequence])
    said = [
        " ".join([name, *(f"{key}={value:.4g}" for key, value in zip(found.columns, row, strict=True))])
        for name, row in zip(names, numbers, strict=True)
    ]
    write_fasta(asked.folder / "designs.fasta", said, sequences)
    return path


def report(asked: Design, task: Measured, qualities: Mapping[str, Quality], summary: Mapping[str, Any]) -> Path:
    """report.html: what the judge says before and after, how far the oracles can be trusted, the best designs."""
    with open(asked.folder / "designs.csv", encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    figures = [
        Figure("activity, by the judge", summary["activity"], summary.get("activity_before")),
        Figure("path KL", summary["path_kl"], unit="nats", note="to the model before, per sequence"),
        Figure("distinct", summary["distinct"], summary.get("distinct_before")),
        Figure("network evaluations", summary["network_evaluations"]),
    ]
    trusted = [
        [name, asked.outside.get(name, f"{each.sequences} sequences"), each.unseen] for name, each in qualities.items()
    ]
    compared = [
        [name.replace("_", " "), summary.get(f"{name}_before"), value]
        for name, value in summary.items()
        if f"{name}_before" in summary and isinstance(value, (int, float))
    ]
    sections: list[Section] = [
        Headline(figures),
        Table("Samples before and after", ["", "before", "after"], compared, text=f"Before is {_before(asked)}."),
        Table(
            "How far the oracles can be trusted",
            ["oracle", "fitted to, or given", "correlation on unseen groups"],
            trusted,
            text="Pearson's, with measurement, on groups that no oracle was fitted to here. What a given one has seen "
            "is not known: its correlation may be too good.",
        ),
        _curves(asked.folder / "tuned"),
        Table(f"The best {min(SHOWN, len(rows))} designs", head, rows[:SHOWN], text="Ranked by the reward's oracle."),
        Note("Odd rows of the table", _odd(task.measured.findings)),
        Table("Wall time", ["stage", "took"], [[stage, seconds(took)] for stage, took in _times(summary)]),
    ]
    CONSOLE.print(f"  judge: {summary.get('activity_before', float('nan')):.2f} -> {summary['activity']:.2f}")
    return write_report(RunFolder(asked.folder), sections, title="Designed sequences")


def _before(asked: Design) -> str:
    given = asked.finetune or {}
    moved = asked.sft is not None and (given.get("sync_ref_model") or ("reference" in given and not given["reference"]))
    return "the generator after SFT" if moved else "the generator"


def _odd(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{each}{'' if each.left_out else ' (used all the same)'}" for each in findings) or "None."


def _times(summary: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The stages that took time here, in their order: of one that was kept, when it was made."""
    stages = {"oracles": "oracles", "generator": "pretrain", "SFT": "sft", "SEPO": "finetune", "designs": "designs"}
    found = {stage: summary.get(f"{name}_seconds") for stage, name in stages.items()}
    return [(stage, took) for stage, took in found.items() if took is not None]


def _curves(tuned: Path) -> Curves:
    """Along fine-tuning: where the reward goes on rising and the judge does not, the oracle is being fooled."""
    records = read_metrics(RunFolder(tuned))
    believed, said = (curve(records, key) for key in ("reward_median", "activity"))
    both = [Series("reward's oracle", *believed), Series("judge", *said)]
    return Curves("Along fine-tuning", [Chart("What the reward believes, and what the judge says", both)])
