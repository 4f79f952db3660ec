"""What an optimizer step costs with the released SEPO update, and with ours, on the DNA network at the released sizes.

Both draw the same G x B sequences (first-hitting), get random advantages, and make one Adam step in float32; a reward
would cost both the same. Ours reads 4 states of each path. The released update reads the neighbours of every sequence,
for the old policy and the new one. The released schedule uses each collection for mu = 5 steps, so that the share of a
rollout in a step is shown for 1 and for 5 steps per collection.

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

OURS, RELEASED = "sepo", "sepo_released"
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
    states: int = 4
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
    ours, released = SEPO(NextSite(sizes.states)), SepoReleased(draws=sizes.draws).objective()
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
        rollouts = timed(policy, clock, sizes, rollout, sizes.sequences)
        cheap = timed(policy, clock, sizes, one(ours, sizes.sequences), sizes.sequences)
        dear = timed(policy, clock, sizes, one(released, cut), cut)
        changed = timed(policy, clock, sizes, change, sizes.sequences)
        rounds.append({"rollout": rollouts, OURS: cheap, RELEASED: dear, "optimizer": changed})
    return {
        name: replace(cost, seconds=median(each[name].seconds for each in rounds)) for name, cost in rounds[0].items()
    }


def warm_up(policy: Denoiser, sizes: Sizes, device: str) -> None:
    """A forward and backward of the sizes to come, so that no kernel is chosen on the clock."""
    for rows in {sizes.batch * sizes.states, min(1024, sizes.length * sizes.ids), sizes.sequences}:
        x: Tensor = torch.zeros(rows, sizes.length, dtype=torch.long, device=device)
        with torch.no_grad():
            policy.raw_logits(x, torch.zeros(rows, device=device))
    policy.raw_logits(x[: sizes.batch], torch.zeros(min(sizes.batch, rows), device=device)).sum().backward()
    policy.network.zero_grad()


def steps(costs: dict[str, Cost], per_collection: int) -> dict[str, Any]:
    """Of an optimizer step: the update, and its share of the collection."""
    found: dict[str, Any] = {}
    for name in (OURS, RELEASED):
        found[name] = {
            "evaluations": costs[name].evaluations + costs["rollout"].evaluations / per_collection,
            "seconds": costs[name].seconds + costs["optimizer"].seconds + costs["rollout"].seconds / per_collection,
        }
    found["ratio"] = {key: found[RELEASED][key] / found[OURS][key] for key in ("evaluations", "seconds")}
    return found


def show(found: dict[str, Any], console: Console) -> None:
    table = Table(title="Per optimizer step of {sequences} sequences".format(**found["settings"]))
    for column in ("", "evaluations", "seconds", "ratio of evaluations", "ratio of seconds"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("rollout", f"{found['costs']['rollout']['evaluations']:,.0f}", _seconds(found["costs"]["rollout"]))
    for name, each in (("update", found["update"]), ("step", found["step"]), (f"step, mu = {MU}", found["step_mu"])):
        ratio = each["ratio"]
        table.add_row(f"{name}: {OURS}", f"{each[OURS]['evaluations']:,.0f}", _seconds(each[OURS]))
        times = (f"{ratio['evaluations']:,.1f}", f"{ratio['seconds']:,.1f}")
        table.add_row(f"{name}: {RELEASED}", f"{each[RELEASED]['evaluations']:,.0f}", _seconds(each[RELEASED]), *times)
    console.print(table)
    count, of = found["costs"][RELEASED]["timed"], found["settings"]["sequences"]
    how = "in full" if count == of else f"on {count} of {of} sequences and scaled by {of / count:g}"
    console.print(f"The released update was timed {how}; {found['settings']['machine']}.")


def _seconds(cost: dict[str, float]) -> str:
    return f"{cost['seconds']:,.3f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", type=int, default=1, help="sequences of the released update that are timed; 0: all")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/released_cost.json"))
    given = parser.parse_args(argv)
    sizes = TOY if given.toy else Sizes()
    if not 0 <= given.slice <= sizes.sequences or given.repeats < 1:
        parser.error(f"--slice {given.slice} --repeats {given.repeats}: 0 to {sizes.sequences} sequences, 1 repeat up.")
    costs = measure(sizes, given.device, given.slice or sizes.sequences, given.repeats)
    if costs[RELEASED].evaluations != sizes.formula:
        raise SystemExit(f"{costs[RELEASED].evaluations} evaluations were counted, the formula says {sizes.formula}.")
    free = replace(costs["rollout"], evaluations=0, seconds=0.0)
    found = {
        "settings": asdict(sizes)
        | {"sequences": sizes.sequences, "machine": machine(given.device), "repeats": given.repeats},
        "costs": {name: asdict(cost) for name, cost in costs.items()},
        "update": steps(costs | {"rollout": free}, 1),
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
