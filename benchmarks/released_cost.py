"""What an optimizer step costs with the released SEPO update, and with ours, on the DNA network at the released sizes.

Both draw the same G x B sequences (first-hitting), get random advantages, and make one Adam step in float32; a reward
would cost both the same. Ours reads 16 states of each path, the default, or 4. The released update reads the neighbours
of every sequence, for the old policy and the new one. The released schedule uses each collection for mu = 5 steps, so
that a step is shown with its update alone, with a rollout of its own, and with a fifth of one.

    python benchmarks/released_cost.py [--slice 1] [--device cuda] [--toy]       writes runs/bench/released_cost.json

--slice: sequences of the released update that are timed; the others cost the same, and are counted by scaling.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from stopwatch import Clock
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.diffusion.process import Absorbing
from sepo.diffusion.rollout import MaskedPath
from sepo.models.families import as_denoiser
from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.objectives import SEPO, Credit, NextSite, Objective
from sepo.objectives.sepo_released import SepoReleased
from sepo.ops import Chance
from sepo.runs.plain import write_json
from sepo.samplers import FirstHitting, roll
from sepo.training.experience import rollout_reading

OURS = {"sepo": SEPO(), "sepo, 4 states": SEPO(NextSite(4))}
RELEASED = "sepo_released"
MU = 5
"""Steps per collection in the released schedule."""


@dataclass(frozen=True)
class Sizes:
    """batch B, groups G, length L, ids d (the mask among them), draws M; hidden, stacks: of the network."""

    batch: int = 16
    groups: int = 8
    length: int = 200
    ids: int = 5
    draws: int = 2
    hidden: int = 128
    stacks: int = 4

    @property
    def sequences(self) -> int:
        return self.batch * self.groups

    @property
    def formula(self) -> int:
        """Evaluations of the released update: G (2 B L d (1 + M) + 2 B)."""
        return self.groups * (2 * self.batch * self.length * self.ids * (1 + self.draws) + 2 * self.batch)


TOY = Sizes(batch=2, groups=2, length=6, hidden=8, stacks=1)


@dataclass(frozen=True)
class Cost:
    """seconds: of the wall, for all sequences; timed: how many of them were timed."""

    evaluations: float
    with_gradient: float
    seconds: float
    timed: int


def network(sizes: Sizes, device: str) -> Denoiser:
    torch.manual_seed(0)
    config = DnaCnnConfig(sizes.ids, sizes.length, sizes.hidden, sizes.stacks)
    policy = as_denoiser(DnaCnn(config), Absorbing(sizes.ids, mask=sizes.ids - 1))
    policy.network.train().to(device)
    return policy


def timed(policy: Denoiser, clock: Clock, sizes: Sizes, work: Any, sequences: int) -> Cost:
    """`work` done once on `sequences` of them, scaled to all."""
    policy.meter.evaluations = policy.meter.with_gradient = 0
    start = clock()
    work()
    seconds, share = clock() - start, sizes.sequences / sequences
    meter = policy.meter
    return Cost(meter.evaluations * share, meter.with_gradient * share, seconds * share, sequences)


def update(policy: Denoiser, objective: Objective, path: MaskedPath, sizes: Sizes) -> None:
    """The gradient of one optimizer step, accumulated over batches of B sequences."""
    advantage = torch.randn(len(path), generator=torch.Generator().manual_seed(2)).to(path.x0.device)
    for start in range(0, len(path), sizes.batch):
        part = path[start : start + sizes.batch]
        chance = Chance.seeded(1, [start], len(part), path.x0.device)
        views = objective.views(part, policy.process, chance)
        with torch.no_grad():
            old = rollout_reading(part, views) if objective.reads_rollout else objective.read(policy, views)
        credit = Credit.of(advantage[start : start + sizes.batch])
        loss = objective.loss(objective.read(policy, views), old, None, credit, views).value
        (loss * len(part) / len(path)).backward()


def measure(sizes: Sizes, device: str, cut: int, repeats: int) -> dict[str, Cost]:
    """Medians over repeats; the parts take turns."""
    policy = replace(network(sizes, device), meter=Meter())
    optimizer = torch.optim.Adam(policy.network.parameters(), lr=1e-4)
    clock = Clock(torch.device(device), wall=True)
    canvas = Canvas.blank(sizes.sequences, sizes.length, device)
    released = SepoReleased(draws=sizes.draws).objective()
    drawn: list[MaskedPath] = []

    def rollout() -> None:
        path = roll(FirstHitting(), policy, canvas, Chance.of(0, sizes.sequences, device))
        assert isinstance(path, MaskedPath)
        drawn[:] = [path]

    def one(objective: Objective, sequences: int) -> Any:
        return lambda: update(policy, objective, drawn[0][:sequences], sizes)

    def change() -> None:
        optimizer.step()
        optimizer.zero_grad()

    warm_up(policy, sizes, device)
    rounds: list[dict[str, Cost]] = []
    for _ in range(repeats):
        found = {"rollout": timed(policy, clock, sizes, rollout, sizes.sequences)}
        for name, ours in OURS.items():
            found[name] = timed(policy, clock, sizes, one(ours, sizes.sequences), sizes.sequences)
        found[RELEASED] = timed(policy, clock, sizes, one(released, cut), cut)
        rounds.append(found | {"optimizer": timed(policy, clock, sizes, change, sizes.sequences)})
    return {
        name: replace(cost, seconds=median(each[name].seconds for each in rounds)) for name, cost in rounds[0].items()
    }


def warm_up(policy: Denoiser, sizes: Sizes, device: str) -> None:
    """A forward and backward of the sizes to come, so that no kernel is chosen on the clock."""
    for rows in {sizes.batch * 16, sizes.batch * 4, min(1024, sizes.length * sizes.ids), sizes.sequences}:
        x: Tensor = torch.zeros(rows, sizes.length, dtype=torch.long, device=device)
        with torch.set_grad_enabled(rows == sizes.batch * 16):
            logits = policy.raw_logits(x, torch.zeros(rows, device=device))
        if logits.requires_grad:
            logits.sum().backward()
    policy.network.zero_grad()


def steps(costs: dict[str, Cost], per_collection: int | None) -> dict[str, dict[str, float]]:
    """Of an optimizer step: the update, and its share of a collection (None: no share); released: how much more."""
    found: dict[str, dict[str, float]] = {}
    share = 0.0 if per_collection is None else 1 / per_collection
    for name in (*OURS, RELEASED):
        own, rollout = costs[name], costs["rollout"]
        seconds = own.seconds + costs["optimizer"].seconds + share * rollout.seconds
        found[name] = {"evaluations": own.evaluations + share * rollout.evaluations, "seconds": seconds}
    dear = dict(found[RELEASED])
    for each in found.values():
        each |= {f"released_{key}": value / each[key] for key, value in dear.items()}
    return found


def show(found: dict[str, Any], console: Console) -> None:
    table = Table(title="Per optimizer step of {sequences} sequences".format(**found["settings"]))
    for column in ("", "evaluations", "seconds", "released: x evaluations", "x seconds"):
        table.add_column(column, justify="right" if column else "left")
    drawn = found["costs"]["rollout"]
    table.add_row("rollout", f"{drawn['evaluations']:,.0f}", f"{drawn['seconds']:,.3f}")
    for scope, title in (("update", "update"), ("step", "step"), ("step_mu", f"step, mu = {MU}")):
        table.add_section()
        for name, each in found[scope].items():
            times = (f"{each['released_evaluations']:,.1f}", f"{each['released_seconds']:,.1f}")
            cells = (f"{each['evaluations']:,.0f}", f"{each['seconds']:,.3f}")
            table.add_row(f"{title}: {name}", *cells, *(times if name != RELEASED else ()))
    console.print(table)
    count, of = found["costs"][RELEASED]["timed"], found["settings"]["sequences"]
    how = "in full" if count == of else f"on {count} of {of} sequences and scaled by {of / count:g}"
    console.print(f"The released update was timed {how}; {found['settings']['machine']}.")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", type=int, default=1, help="sequences of the released update that are timed; 0: all")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU; 1 if it is shared")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/released_cost.json"))
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    sizes = TOY if given.toy else Sizes()
    if not 0 <= given.slice <= sizes.sequences or given.repeats < 1:
        parser.error(f"--slice {given.slice} --repeats {given.repeats}: 0 to {sizes.sequences} sequences, 1 repeat up.")
    costs = measure(sizes, given.device, given.slice or sizes.sequences, given.repeats)
    if costs[RELEASED].evaluations != sizes.formula:
        raise SystemExit(f"{costs[RELEASED].evaluations} evaluations were counted, the formula says {sizes.formula}.")
    found = {
        "settings": asdict(sizes)
        | {"sequences": sizes.sequences, "machine": machine(given.device), "repeats": given.repeats},
        "costs": {name: asdict(cost) for name, cost in costs.items()},
        "update": steps(costs, None),
        "step": steps(costs, 1),
        "step_mu": steps(costs, MU),
    }
    show(found, Console(width=120))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, found)


def machine(device: str) -> str:
    """What the seconds belong to."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name()}, float32, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


if __name__ == "__main__":
    main()
