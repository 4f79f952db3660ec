r"""Samplers x kinds of model: how far what is drawn lies from the data, where the network makes no error of its own.

In a world that is enumerated, with its ideal denoiser read in four ways,

    masked posterior         p(x0_i | x_t)                        MDLM, LLaDA, masked language models
    masked score             q_t(y) / q_t(x_t)                    SEDD
    uniform posterior        p(x0_i | x_t), noise of all letters  DiffusionGemma
    uniform leave-one-out    p(x0_i | x_t without site i)         UDLM

the total variation between the law of each sampler's draws and the data law: with one site per step, or on grids of N
steps. The law is enumerated (first hitting, left to right, every sampler with a kernel), else counted over draws; of
as many draws of the data law itself the counts would lie the Monte-Carlo floor away. -: the sampler refuses the model.

    python benchmarks/sampler_table.py [--quick]        writes runs/bench/sampler_table.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor, nn

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import LeaveOneOut, Score
from sepo.evaluation.exact import first_hitting_law, kernel_law, total_variation
from sepo.evaluation.objectives import left_to_right_law
from sepo.evaluation.worlds import (
    IdealUniform,
    Law,
    Table,
    World,
    ideal_logits,
    ideal_uniform,
    look_up,
    markov_chain,
    tabular,
)
from sepo.ops import Chance, draw, rows
from sepo.runs.plain import write_json
from sepo.samplers import SAMPLERS, FirstHitting, KernelSampler, LeftToRight, Sampler, roll, sampler_named
from sepo.samplers.confidence import RULES

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {"confidence": tuple({"rule": rule} for rule in RULES)}
"""Those of a sampler that are shown apart; all others are the defaults."""


@dataclass(frozen=True)
class Sizes:
    """letters, length: of the world; grids: numbers of steps N; draws: where the law is not enumerated."""

    letters: int = 3
    length: int = 4
    grids: tuple[int, ...] = (16, 64)
    draws: int = 20_000
    floors: int = 1000
    seed: int = 1


QUICK = Sizes(length=3, grids=(4, 16), draws=4000, floors=100)


@dataclass(frozen=True)
class Entry:
    """how: enumerated, drawn, or the reason why the sampler refuses the model; total_variation: None if it does."""

    total_variation: float | None
    how: str


@dataclass(frozen=True)
class Row:
    """steps: of the grid; None: one site per step."""

    sampler: str
    options: dict[str, Any]
    steps: int | None
    exact_density: bool
    kinds: dict[str, Entry]


class WithoutOwnSite(IdealUniform):
    """p(x0_i | x_t without site i) by Bayes' rule over all sequences."""

    def forward(self, xt: Tensor, sigma: Tensor) -> Tensor:
        process, sites = self.world.uniform(), range(self.world.length)
        law = self.log_law.softmax(0)
        likelihood = process.given_end(xt, (-sigma).exp().to(law.dtype))
        per_site = likelihood[:, torch.arange(self.world.length), self.world.sequences]
        held = nn.functional.one_hot(self.world.sequences, self.world.letters).to(law.dtype)
        others = [[other for other in sites if other != site] for site in sites]
        joint = torch.stack([per_site[..., each].prod(-1) for each in others], dim=-1) * law[:, None]
        return torch.einsum("bsl,slv->blv", joint, held).log()


def by_bayes(network: nn.Module, xt: Tensor, sigma: Tensor, attend: Tensor | None, sites: Tensor | None) -> Tensor:
    logits = network(xt, sigma)
    return logits if sites is None else rows(logits, sites)


def models(world: World, law: Law) -> dict[str, Denoiser]:
    """The ideal denoiser in four forms; that of scores before they are scaled by sigma, as SEDD's network says them."""
    scores = Table(world, ideal_logits(world, law) + torch.tensor(float(world.letters)).log())
    left_out, length = WithoutOwnSite(world, law), world.length
    return {
        "masked posterior": tabular(world, law),
        "masked score": Denoiser(scores, world.absorbing(), look_up, Score(), length=length),
        "uniform posterior": ideal_uniform(world, law),
        "uniform leave-one-out": Denoiser(
            left_out, world.uniform(), by_bayes, LeaveOneOut(), time_free=False, length=length
        ),
    }


def samplers(sizes: Sizes) -> Iterator[tuple[str, dict[str, Any], int | None, Sampler]]:
    """A sampler whose number of steps is None by default fills one site per step; the others have a grid."""
    for name, kind in SAMPLERS.items():
        by_site = fields(kind)[0].default is None
        for options in OPTIONS.get(name, ({},)):
            for steps in (None,) if by_site else sizes.grids:
                yield name, options, steps, sampler_named(name, steps, options)


@torch.no_grad()
def exact_law(sampler: Sampler, policy: Denoiser, world: World) -> Law | None:
    """By enumeration, None where none is known.

    Raises:
        ValueError: the sampler refuses the process.
    """
    if isinstance(sampler, FirstHitting):
        return first_hitting_law(policy, world)
    if isinstance(sampler, LeftToRight):
        return left_to_right_law(policy, world)
    return kernel_law(sampler, policy, world) if isinstance(sampler, KernelSampler) else None


def entry(sampler: Sampler, policy: Denoiser, world: World, data: Law, sizes: Sizes) -> Entry:
    try:
        roll(sampler, policy, Canvas.blank(1, world.length), Chance.of(0, 1))
    except ValueError as error:
        return Entry(None, str(error))
    law = exact_law(sampler, policy, world)
    if law is not None:
        return Entry(float(total_variation(law, data)), "enumerated")
    rollout = roll(sampler, policy, Canvas.blank(sizes.draws, world.length), Chance.of(sizes.seed, sizes.draws))
    return Entry(float(total_variation(counted(world.index(rollout.x0), len(data)), data)), "drawn")


def counted(indices: Tensor, size: int) -> Law:
    return indices.bincount(minlength=size).double() / len(indices)


def floor(data: Law, sizes: Sizes) -> dict[str, float]:
    """Total variation of counts of the data law's own draws: its mean, and what 1 in 100 exceeds."""
    found = []
    for index in range(sizes.floors):
        indices = draw(data.expand(sizes.draws, -1), Chance.seeded(sizes.seed, [index], sizes.draws).uniform())
        found.append(total_variation(counted(indices, len(data)), data))
    values = torch.stack(found)
    return {"mean": float(values.mean()), "highest_of_100": float(values.quantile(0.99))}


def measure(sizes: Sizes) -> tuple[list[Row], dict[str, float]]:
    world = World(sizes.letters, sizes.length)
    data = markov_chain(world, sizes.seed)
    kinds = models(world, data)
    found = []
    for name, options, steps, sampler in samplers(sizes):
        entries = {kind: entry(sampler, policy, world, data, sizes) for kind, policy in kinds.items()}
        found.append(Row(name, options, steps, sampler.exact_density, entries))
    return found, floor(data, sizes)


def show(found: list[Row], floor: dict[str, float], sizes: Sizes, console: Console) -> None:
    world = f"{sizes.letters} letters, {sizes.length} sites"
    table = Printed(title=f"Total variation to the data law ({world}), ideal denoiser", box=box.MARKDOWN)
    for column in ("sampler", "steps", "exact density", *found[0].kinds):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    for row in found:
        name = " ".join([row.sampler, *(str(value) for value in row.options.values())])
        steps = "one site each" if row.steps is None else f"N = {row.steps}"
        entries = (written(each, floor) for each in row.kinds.values())
        table.add_row(name, steps, "yes" if row.exact_density else "no", *entries)
    console.print(table)
    console.print(
        f"* counted over {sizes.draws:,} draws; those of the data law itself lie {floor['mean']:.3f} away, and 1 time "
        f"in 100 more than {floor['highest_of_100']:.3f} (~: not above that). All others are enumerated.",
        soft_wrap=True,
    )


def written(found: Entry, floor: dict[str, float]) -> str:
    if found.total_variation is None:
        return "-"
    if found.how == "enumerated":
        return "0" if found.total_variation < 1e-6 else f"{found.total_variation:.4f}"
    return f"{'~' if found.total_variation <= floor['highest_of_100'] else ''}{found.total_variation:.3f}*"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller world and fewer draws, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/sampler_table.json"))
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = QUICK if given.quick else Sizes()
    found, lowest = measure(sizes)
    show(found, lowest, sizes, Console(width=150))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, {"settings": asdict(sizes), "floor": lowest, "rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
