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

    python benchmarks/gradient_quality.py [--worlds chain ising] [--quick]      writes runs/lab/gradient_quality.json
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lab_worlds import FULL, HALF, LAB_WORLDS, LabWorld, pretrained
from laboratory import (
    Collection,
    Method,
    Setting,
    collect,
    flat_gradient,
    loss_of,
    metered,
    returns_of,
    sampler_of,
)
from methods import methods
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.exact import all_paths, expected_reward, path_divergence, path_probabilities, rated
from sepo.evaluation.objectives import kernel_objective, left_to_right_objective
from sepo.objectives import Credit

DISTANCES = (0, 4, 16)
KERNEL_STEPS = 6


@dataclass(frozen=True)
class Quality:
    """One record of the table."""

    world: str
    process: str
    network: str
    updates: int
    method: str
    cosine: float
    relative_bias: float
    bias_error: float
    variance: float
    evaluations: float
    reading: float
    rescaled: bool


def goal(setting: Setting, policy: Denoiser) -> Tensor:
    """E[R] - beta KL between the laws of paths, differentiable."""
    world, reward = setting.world, setting.reward
    name = type(setting.sampler).__name__
    if name == "FirstHitting":
        value = expected_reward(policy, world, reward)
        return value - setting.beta * path_divergence(policy, setting.reference, world)
    if name == "LeftToRight":
        return left_to_right_objective(policy, setting.reference, world, reward, setting.beta)
    return kernel_objective(setting.sampler, policy, setting.reference, world, reward, setting.beta)


def moved(setting: Setting, policy: Denoiser, updates: int, rate: float = 5e-4) -> Denoiser:
    """The policy after so many steps up the exact gradient."""
    network = copy.deepcopy(policy.network)
    new, optimizer = policy.on(network), torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(updates):
        optimizer.zero_grad()
        (-goal(setting, new)).backward()
        optimizer.step()
    return new


def sampled(
    setting: Setting, method: Method, old: Denoiser, new: Denoiser, batches: int, batch: int
) -> tuple[Tensor, float]:
    """Ascent gradients of batches [batches parameters]; evaluations per sequence, rollouts included."""
    old = metered(old)
    new = old if new.network is old.network else new.on(new.network)
    counted = [old.meter, setting.reference.meter, new.meter]
    before = sum({id(meter): meter.evaluations for meter in counted}.values())
    objective = method.objective(setting.sampler, setting.beta)
    gradients = []
    for index in range(batches):
        collected = collect(setting, method, old, batch, seed=index)
        gradients.append(-flat_gradient(loss_of(setting, objective, collected, old, new, seed=index), new))
    after = sum({id(meter): meter.evaluations for meter in counted}.values())
    return torch.stack(gradients).double(), (after - before) / batches / batch


def enumerated(setting: Setting, method: Method, old: Denoiser, new: Denoiser) -> Tensor:
    """The mean over all paths of the old policy, with the population's mean return at each step as the baseline."""
    paths = rated(old, all_paths(setting.world))
    probability = path_probabilities(old, paths).detach()
    returns, reward, ratio = returns_of(setting, method, paths)
    centred = returns - (probability.unsqueeze(1) * returns).sum(0)
    share = (probability * len(paths)).unsqueeze(1)
    credit = Credit(centred * share, reward, ratio)
    objective = method.objective(setting.sampler, setting.beta)
    return -flat_gradient(loss_of(setting, objective, Collection(paths, credit), old, new, seed=0), new).double()


def quality(
    setting: Setting, method: Method, old: Denoiser, new: Denoiser, batches: int, batch: int
) -> dict[str, float]:
    exact = flat_gradient(goal(setting, new), new).double()
    gradients, evaluations = sampled(setting, method, old, new, batches, batch)
    mean, norm = gradients.mean(0), exact.norm()
    spread = float((gradients - mean).square().sum() / (batches - 1))
    error = spread / batches
    if method.enumerable:
        mean, error = enumerated(setting, method, old, new), 0.0
    length = max(float(mean.square().sum()) - error, 1e-12) ** 0.5
    cosine = float(mean @ exact / norm) / length
    found = float(mean.square().sum()) > 2 * error  # else the mean is nothing but its own error
    factor = max(float(mean @ exact) / length**2, 0.0) if method.rescaled and found else 1.0
    squared = float((factor * mean - exact).square().sum()) - factor**2 * error
    return {
        "cosine": max(-1.0, min(1.0, cosine)) if found else 0.0,
        "relative_bias": max(squared, 0.0) ** 0.5 / float(norm),
        "bias_error": factor * error**0.5 / float(norm),
        "variance": factor**2 * spread * batch / float(norm) ** 2,
        "evaluations": evaluations,
    }


def cells(lab: LabWorld, process: str, batches: int, batch: int) -> Iterator[Quality]:
    reference = pretrained(lab, process, FULL)
    half = pretrained(lab, process, HALF)
    for network, policy in (("pretrained", reference), ("half-trained", half)):
        for method in methods(process):
            setting = Setting(
                lab.world, lab.reward(lab.world), lab.beta, policy, sampler_of(method, process, KERNEL_STEPS)
            )
            for updates in DISTANCES:
                start = moved(setting, policy, 4)  # away from the reference, where the KL has a slope
                new = moved(setting, start, updates) if updates else start
                found = quality(setting, method, start, new, batches, batch)
                rollouts = lab.world.length if process == "absorbing" else KERNEL_STEPS
                prices = rollouts * (2 if setting.beta and method.priced else 1)
                yield Quality(
                    lab.name,
                    process,
                    network,
                    updates,
                    method.name,
                    **found,
                    reading=found["evaluations"] - prices,
                    rescaled=method.rescaled,
                )


def report(found: list[Quality]) -> None:
    print(f"{'method':32}{'upd':>4}{'cosine':>9}{'bias':>9}{'+-':>8}{'variance':>10}{'eval':>7}{'var x eval':>12}")
    for each in found:
        print(
            f"{each.method:32}{each.updates:>4}{each.cosine:>9.3f}{each.relative_bias:>9.3f}{each.bias_error:>8.3f}"
            f"{each.variance:>10.1f}{each.evaluations:>7.1f}{each.variance * each.evaluations:>12.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=[each.name for each in LAB_WORLDS])
    parser.add_argument("--processes", nargs="+", default=["absorbing", "uniform"])
    parser.add_argument("--batches", type=int, default=48)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="few batches, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/lab/gradient_quality.json"))
    options = parser.parse_args()
    if options.quick:
        options.batches, options.batch = 3, 8
    records: list[Quality] = []
    for lab in (each for each in LAB_WORLDS if each.name in options.worlds):
        for process in options.processes:
            started = time.perf_counter()
            found = list(cells(lab, process, options.batches, options.batch))
            records += found
            print(f"\n== {lab.name}, {process} ({time.perf_counter() - started:.0f} s)")
            for network in ("pretrained", "half-trained"):
                print(f"-- {network}")
                report([each for each in found if each.network == network])
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps([asdict(each) for each in records], indent=1))
    print(f"\nwrote {options.out}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
