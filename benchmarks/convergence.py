r"""Where every method ends at equal network evaluations, rollouts and references included.

From the same pretrained network each method fine-tunes until its budget of evaluations is spent, with Adam and a rate
that falls linearly to 0. The rate is chosen per world and method from the same short list, at a seed that is not
reported, by E[R] - beta KL(policy || pretrained) of the exact laws at the end. Records, at every eighth of the budget
(every quarter in worlds of more than 4,096 sequences), exactly by enumeration:

    total_variation   to the optimum p_ref exp(R / beta) / Z, p_ref the law of the pretrained network's sampler
    expected_reward, kl (nats from p_ref), evaluations (so far)

and of p_ref and the optimum themselves, in landmarks.json beside them.

    python benchmarks/convergence.py [--worlds chain ising] [--seeds 3] [--quick]      writes runs/lab/convergence.json
    python benchmarks/convergence.py --data FOLDER      the measured worlds as well (lab_measured.py says of what)

A run that is stopped goes on where it was: cells in the file with the same settings are not measured again.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import mean

import torch
from cells import Cells, Record
from lab_measured import measured_worlds
from lab_worlds import LAB_WORLDS, LabWorld, pretrained, with_values
from laboratory import UNIFORM_STEPS, Method, Setting, collect, loss_of, metered, replay_loss, sampler_of
from methods import methods
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.exact import kernel_law, kl, optimum, total_variation, visits_of
from sepo.evaluation.objectives import left_to_right_law
from sepo.evaluation.values import everywhere
from sepo.evaluation.worlds import Law
from sepo.samplers import Ancestral, FirstHitting, KernelSampler, LeftToRight
from sepo.training import Elites

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
TUNING_SEED = 1000
LOST = {"total_variation": 1.0, "expected_reward": float("nan"), "kl": float("inf")}
"""The standing of a run whose weights are no longer finite."""
JUDGES = {
    "absorbing": {"first_hitting": FirstHitting(), "left_to_right": LeftToRight()},
    "uniform": {"ancestral": Ancestral(UNIFORM_STEPS)},
}
"""The samplers whose laws are compared, by process."""


@dataclass(frozen=True)
class Settings:
    """budget: network evaluations of a run; batch: sequences per collection; updates: on each of them.

    seeds: runs whose mean is reported.
    """

    budget: int = 100_000
    batch: int = 64
    updates: int = 2
    seeds: int = 3


def law_of(setting: Setting, policy: Denoiser) -> Law:
    """Of finished sequences: ancestral rollouts of masks are judged at their limit of many steps, first-hitting."""
    with torch.no_grad():
        if isinstance(setting.sampler, LeftToRight):
            return left_to_right_law(policy, setting.world).double()
        if isinstance(setting.sampler, KernelSampler) and not isinstance(policy.process, Absorbing):
            return kernel_law(setting.sampler, policy, setting.world).double()
        world = setting.world
        return visits_of(everywhere(policy, world).exp(), world)[world.state_index(world.sequences)]


def standing(setting: Setting, law: Law, before: Law) -> dict[str, float]:
    """Of a law, on the way from `before` to the optimum."""
    goal = optimum(before, setting.reward, setting.beta)
    return {
        "total_variation": float(total_variation(law, goal)),
        "expected_reward": float((law * setting.reward).sum()),
        "kl": float(kl(law, before)),
    }


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    [group] = optimizer.param_groups
    group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


def fine_tune(
    setting: Setting,
    method: Method,
    settings: Settings,
    rate: float,
    seed: int,
    standings: int = 8,
    before: Law | None = None,
) -> list[dict[str, float]]:
    """So many standings, evenly over the budget. A run whose weights are no longer finite stops there.

    before: the law of the reference, where it is known already.
    """
    reference = metered(setting.reference)
    policy = reference.on(copy.deepcopy(reference.network))
    if method.critic is not None:
        policy = with_values(policy, seed)
    setting = Setting(setting.world, setting.reward, setting.beta, reference, setting.sampler)
    objective = method.objective(setting)
    before = law_of(setting, reference) if before is None else before
    optimizer = torch.optim.Adam(policy.network.parameters(), lr=rate)
    meter, elites = policy.meter, Elites(method.replay.size if method.replay else 0)
    meter.evaluations = 0
    found, collection = [], 0
    while meter.evaluations < settings.budget:
        old = policy.on(copy.deepcopy(policy.network)) if settings.updates > 1 else policy
        collected = collect(setting, method, old, settings.batch, seed * 100_003 + collection)
        if method.replay is not None:
            elites.hear(collected.rollout.x0, collected.credit.reward)
        for update in range(settings.updates):
            spent = meter.evaluations
            current = old if update == 0 and settings.updates == 1 else policy
            chance = seed * 100_003 + 17 * collection + update
            loss = loss_of(setting, objective, collected, old, current, chance)
            if method.replay is not None:
                loss = loss + replay_loss(method.replay, elites, current, settings.batch, chance)
            descend(optimizer, loss, rate * max(1 - spent / settings.budget, 0.0))
            assert meter.evaluations > spent
        collection += 1
        if not all(weight.isfinite().all() for weight in policy.network.parameters()):
            return [*found, LOST | {"evaluations": meter.evaluations}]
        if meter.evaluations >= settings.budget * (len(found) + 1) / standings:
            spent = meter.evaluations
            found.append({"evaluations": spent, **standing(setting, law_of(setting, policy), before)})
            meter.evaluations = spent
            if not found[-1]["kl"] < float("inf"):
                break
    return found


def score(beta: float, found: list[dict[str, float]]) -> float:
    last = found[-1]
    value = last["expected_reward"] - beta * last["kl"]
    return value if value == value else -float("inf")


def record(lab: LabWorld, process: str, method: Method, settings: Settings, policy: Denoiser) -> Record:
    setting = Setting(lab.world, lab.reward(lab.world), lab.beta, policy, sampler_of(method, process, lab.world))
    before = law_of(setting, policy)
    tried = {
        rate: score(lab.beta, fine_tune(setting, method, settings, rate, TUNING_SEED, 1, before)) for rate in RATES
    }
    rate = max(tried, key=lambda each: tried[each])
    standings = 8 if len(lab.world.sequences) <= 4096 else 4
    runs = [fine_tune(setting, method, settings, rate, seed, standings, before) for seed in range(settings.seeds)]
    last = [run[-1] for run in runs]
    return {
        **{name: mean(each[name] for each in last) for name in last[0]},
        "objective": mean(score(lab.beta, run) for run in runs),
        "spread": max(each["total_variation"] for each in last) - min(each["total_variation"] for each in last),
        "learning_rate": rate,
        "runs": runs,
    }


def report(records: list[Record]) -> None:
    print(f"{'method':32}{'rate':>8}{'TV':>8}{'+-':>7}{'E[R]':>8}{'KL':>8}{'E[R]-bKL':>10}{'evaluations':>13}")
    for each in sorted(records, key=lambda record: record["total_variation"]):
        print(
            f"{each['method']:32}{each['learning_rate']:>8g}{each['total_variation']:>8.3f}{each['spread']:>7.3f}"
            f"{each['expected_reward']:>8.3f}{each['kl']:>8.3f}{each['objective']:>10.4f}{each['evaluations']:>13.0f}"
        )


def mark(lab: LabWorld, process: str, begin: Callable[[], Denoiser], cells: Cells) -> None:
    """Where runs begin and what they cannot pass, for each sampler by which laws are judged."""
    for name, sampler in JUDGES[process].items():
        if cells.has(lab.name, process, name):
            continue
        setting = Setting(lab.world, lab.reward(lab.world), lab.beta, begin(), sampler)
        before = law_of(setting, setting.reference)
        laws = {"pretrained": before, "optimum": optimum(before, setting.reward, setting.beta)}
        found = [{"landmark": landmark, **standing(setting, law, before)} for landmark, law in laws.items()]
        cells.put(lab.name, process, name, records=[each | {"objective": score(lab.beta, [each])} for each in found])


def measure(
    lab: LabWorld,
    process: str,
    begin: Callable[[], Denoiser],
    cells: Cells,
    settings: Settings,
    chosen: list[str] | None,
) -> None:
    """Every cell of a world under a process that is not there yet."""
    started = time.perf_counter()
    for method in methods(process):
        cell = (lab.name, process, method.name)
        if (chosen and method.name not in chosen) or cells.has(*cell):
            continue
        cells.put(*cell, records=[record(lab, process, method, settings, begin())])
    print(f"\n== {lab.name}, {process} ({time.perf_counter() - started:.0f} s)")
    report(cells.where(world=lab.name, process=process))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", help="some of them only, by name")
    parser.add_argument("--data", type=Path, help="folder of the measured tables: adds the worlds tfbind8 and gb1")
    parser.add_argument("--methods", nargs="+", help="some of them only, by name")
    parser.add_argument("--seeds", type=int, default=Settings.seeds)
    parser.add_argument("--budget", type=int, default=Settings.budget)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the budget, one seed, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/lab/convergence.json"))
    options = parser.parse_args()
    if options.quick:
        options.budget, options.seeds = 3_000, 1
    settings = Settings(budget=options.budget, seeds=options.seeds)
    cells = Cells(options.out, ("world", "process", "method"), vars(settings))
    landmarks = Cells(options.out.with_name("landmarks.json"), ("world", "process", "sampler"), {})
    worlds = [*LAB_WORLDS, *(measured_worlds(options.data) if options.data else ())]
    for lab in (each for each in worlds if not options.worlds or each.name in options.worlds):
        for process in lab.processes:
            begin = cache(partial(pretrained, lab, process))
            mark(lab, process, begin, landmarks)
            measure(lab, process, begin, cells, settings, options.methods)
    print(f"\nwrote {options.out} and {landmarks.path.name}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
