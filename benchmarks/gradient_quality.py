r"""How good the gradient of every method is: against grad(E[R] - beta KL(paths)) of the sampler that draws rollouts.

For every world, process, network (pretrained to the end, or to a tenth), and distance from the policy that drew the
rollouts (0, 4 or 16 updates), of every method:

    cosine          of its mean gradient with the exact one
    relative_bias   |mean - exact| / |exact|; of a method whose expectation is a gradient up to a factor, after the best
    bias_error      Monte-Carlo error of that; 0 where all paths are enumerated
    variance        trace of the covariance of per-sequence gradients over |exact|^2
    evaluations     of the network per sequence and update, rollout and reference included; `reading`: without those

Rewards are compared with those of the other sequences of a batch, leave-one-out or as the method has it, and never
divided by a deviation.

DRAKES (arXiv 2410.13643) is held against the gradient of its own ancestral sampler, on the multilinear extension of the
reward; what is biased is its soft path.

    python benchmarks/gradient_quality.py [--worlds chain ising] [--quick]      writes runs/lab/gradient_quality.json
    python benchmarks/gradient_quality.py --data FOLDER      the measured worlds as well (lab_measured.py says of what)

A run that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cells import Cells, Record
from lab_measured import measured_worlds
from lab_worlds import LAB_WORLDS, LabWorld, pretrained
from laboratory import Collection, Method, Setting, collect, flat_gradient, loss_of, metered, returns_of, sampler_of
from methods import methods
from targets import Target, targets
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.exact import all_paths, path_probabilities, rated
from sepo.objectives import Credit

DISTANCES = (0, 4, 16)
ENUMERATED = 100_000
"""Paths of a world that are summed over."""
KEY = ("world", "process", "network", "method")


@dataclass(frozen=True)
class Settings:
    batches: int = 48
    batch: int = 64


def sampled(
    setting: Setting, method: Method, old: Denoiser, new: Denoiser, batches: int, batch: int
) -> tuple[Tensor, float, float]:
    """Ascent gradients of batches [batches parameters]; evaluations per sequence, and those of them that are no rollout
    and no price of it."""
    old = metered(old)
    new = old if new.network is old.network else new.on(new.network)
    meters = {id(meter): meter for meter in (old.meter, setting.reference.meter, new.meter)}.values()
    objective = method.objective(setting)
    gradients, evaluations, reading = [], 0, 0
    for index in range(batches):
        before = sum(meter.evaluations for meter in meters)
        collected = collect(setting, method, old, batch, seed=index)
        drawn = sum(meter.evaluations for meter in meters)
        gradients.append(-flat_gradient(loss_of(setting, objective, collected, old, new, seed=index), new))
        after = sum(meter.evaluations for meter in meters)
        evaluations, reading = evaluations + after - before, reading + after - drawn
    return torch.stack(gradients).double(), evaluations / batches / batch, reading / batches / batch


def enumerated(setting: Setting, method: Method, old: Denoiser, new: Denoiser) -> Tensor:
    """The mean over all paths of the old policy, with the population's mean return at each step as the baseline."""
    paths = rated(old, all_paths(setting.world))
    probability = path_probabilities(old, paths).detach()
    returns, reward, ratio, _ = returns_of(setting, method, paths)
    centred = returns - (probability.unsqueeze(1) * returns).sum(0)
    share = (probability * len(paths)).unsqueeze(1)
    credit = Credit(centred * share, reward, ratio)
    objective = method.objective(setting)
    return -flat_gradient(loss_of(setting, objective, Collection(paths, credit), old, new, seed=0), new).double()


def quality(
    setting: Setting, method: Method, target: Target, settings: Settings, enumerable: bool = True
) -> dict[str, float]:
    """enumerable: whether the paths of the world are few enough to be summed over, where the method has such a mean."""
    exact, norm = target.gradient, target.gradient.norm()
    gradients, evaluations, reading = sampled(setting, method, target.old, target.new, settings.batches, settings.batch)
    mean = gradients.mean(0)
    spread = float((gradients - mean).square().sum() / (settings.batches - 1))
    error = spread / settings.batches
    if method.enumerable and enumerable:
        mean, error = enumerated(setting, method, target.old, target.new), 0.0
    length = max(float(mean.square().sum()) - error, 1e-12) ** 0.5
    cosine = float(mean @ exact / norm) / length
    found = float(mean.square().sum()) > 2 * error  # else the mean is nothing but its own error
    factor = max(float(mean @ exact) / length**2, 0.0) if method.rescaled and found else 1.0
    squared = float((factor * mean - exact).square().sum()) - factor**2 * error
    return {
        "cosine": max(-1.0, min(1.0, cosine)) if found else 0.0,
        "relative_bias": max(squared, 0.0) ** 0.5 / float(norm),
        "bias_error": factor * error**0.5 / float(norm),
        "variance": factor**2 * spread * settings.batch / float(norm) ** 2,
        "evaluations": evaluations,
        "reading": reading,
    }


class Bench:
    """A world under a process, with its networks; what is exact there is worked out once for each sampler."""

    def __init__(self, lab: LabWorld, process: str) -> None:
        self.lab, self.process = lab, process
        self.reward = lab.reward(lab.world)
        self.networks = {
            "pretrained": pretrained(lab, process),
            "half-trained": pretrained(lab, process, lab.steps // 10),
        }
        self.known: dict[tuple[str, Any], dict[int, Target]] = {}

    def records(self, network: str, method: Method, settings: Settings) -> list[Record]:
        """One for each distance between the policy that draws and the one that is updated."""
        lab, sampler = self.lab, sampler_of(method, self.process, self.lab.world)
        setting = Setting(lab.world, self.reward, lab.beta, self.networks[network], sampler)
        if (network, sampler) not in self.known:
            self.known[network, sampler] = targets(setting, self.networks[network], DISTANCES)
        found = []
        for updates, target in self.known[network, sampler].items():
            measures = quality(setting, method, target, settings, lab.paths <= ENUMERATED)
            found.append({"updates": updates, **measures, "rescaled": method.rescaled})
        return found


def report(found: list[Record]) -> None:
    print(f"{'method':32}{'upd':>4}{'cosine':>9}{'bias':>9}{'+-':>8}{'variance':>10}{'eval':>7}{'var x eval':>12}")
    for each in found:
        print(
            f"{each['method']:32}{each['updates']:>4}{each['cosine']:>9.3f}{each['relative_bias']:>9.3f}"
            f"{each['bias_error']:>8.3f}{each['variance']:>10.1f}{each['evaluations']:>7.1f}"
            f"{each['variance'] * each['evaluations']:>12.0f}"
        )


def has_gradient(method: Method, lab: LabWorld) -> bool:
    """Whether there is an exact gradient to hold it against: elites are no estimate of one, a critic's changes as it
    learns, and that of steps in which several sites appear takes a matrix between all masked states."""
    return method.critic is None and method.replay is None and (lab.small or method.sampler != "ancestral")


def measure(lab: LabWorld, process: str, cells: Cells, settings: Settings, chosen: list[str] | None) -> None:
    """Every cell of a world under a process that is not there yet."""
    started, bench = time.perf_counter(), None
    for network in ("pretrained", "half-trained"):
        for method in (each for each in methods(process) if has_gradient(each, lab)):
            cell = (lab.name, process, network, method.name)
            if (chosen and method.name not in chosen) or cells.has(*cell):
                continue
            bench = bench or Bench(lab, process)
            cells.put(*cell, records=bench.records(network, method, settings))
    print(f"\n== {lab.name}, {process} ({time.perf_counter() - started:.0f} s)")
    for network in ("pretrained", "half-trained"):
        print(f"-- {network}")
        report(cells.where(world=lab.name, process=process, network=network))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", help="some of them only, by name")
    parser.add_argument("--data", type=Path, help="folder of the measured tables: adds the worlds tfbind8 and gb1")
    parser.add_argument("--methods", nargs="+", help="some of them only, by name")
    parser.add_argument("--batches", type=int, default=Settings.batches)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--quick", action="store_true", help="few batches, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/lab/gradient_quality.json"))
    options = parser.parse_args()
    settings = Settings(3, 8) if options.quick else Settings(options.batches, options.batch)
    cells = Cells(options.out, KEY, vars(settings))
    worlds = [*LAB_WORLDS, *(measured_worlds(options.data) if options.data else ())]
    for lab in (each for each in worlds if not options.worlds or each.name in options.worlds):
        for process in lab.processes:
            measure(lab, process, cells, settings, options.methods)
    print(f"\nwrote {options.out}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
