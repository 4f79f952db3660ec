"""Bias and variance of the gradient, per network evaluation, for every place where a policy can be read.

Everything is enumerated in a world of 3 letters and 5 sites: paths, tokens, masks, and which states are read. The
policy is the first-hitting sampler of the ideal denoiser of a Markov chain, with normal noise on its logits. Every
masked state has parameters of its own, so that a reading moves only the states it reads (`finished`: one mask).
Bias: |mean - exact| / |exact|, for returns less their mean, and with a constant of one standard deviation left in.
Variance: trace of the covariance of one sequence's gradient / |exact|^2, times the network evaluations that it costs.

    next_site     the sites revealed at states of the path
    all_sites     every masked site at states of the path
    fresh_masks   random masks of the finished sequence
    finished      each single site of the finished sequence masked: Besag's pseudo-likelihood

    python benchmarks/exact_gradients.py [--reward random] [--seeds 3]      writes runs/exact_gradients.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.views import Views, read
from sepo.evaluation.exact import all_paths, expected_reward, first_hitting_law, path_probabilities
from sepo.evaluation.worlds import Law, World, count, markov_chain, parity, random_reward, tabular
from sepo.objectives import AllSites, NextSite
from sepo.ops import Chance, pick

WORLD = World(letters=3, length=5)
NOISE = (0.0, 0.1, 0.3, 0.5, 1.0)


@dataclass(frozen=True)
class Cases:
    """All that can be drawn: views with their sequences, and how likely each case is."""

    views: Views
    probability: Tensor

    def alone(self) -> Cases:
        """One view per sequence, drawn with equal chance: its weight then stands for all of them."""
        views = self.views.xt.shape[1]
        parts = {
            name: tensor.flatten(0, 1).unsqueeze(1)
            for name, tensor in (("xt", self.views.xt), ("weight", self.views.weight * views))
        }
        x0 = self.views.x0.repeat_interleave(views, dim=0)
        alone = replace(self.views, x0=x0, t=self.views.t.flatten().unsqueeze(1), hazard=parts["weight"], **parts)
        return Cases(alone, self.probability.repeat_interleave(views) / views)


@dataclass(frozen=True)
class Measured:
    evaluations: int
    bias: float
    bias_with_constant: float
    cosine: float
    variance_times_evaluations: float


def path_cases(policy: Denoiser, reading: NextSite | AllSites) -> Cases:
    paths = all_paths(WORLD)
    views = reading(paths, policy.process, Chance((), len(paths)))
    return Cases(views, path_probabilities(policy, paths).detach())


def mask_cases(policy: Denoiser, counts: tuple[int, ...]) -> Cases:
    """Finished sequences under masks of so many sites, each count equally likely, one view each."""
    sequences, process = WORLD.sequences, WORLD.absorbing()
    law = first_hitting_law(policy, WORLD).detach()
    masks, shares, weights = [], [], []
    for masked_sites in counts:
        for sites in combinations(range(WORLD.length), masked_sites):
            masks.append([site in sites for site in range(WORLD.length)])
            shares.append(1 / len(counts) / comb(WORLD.length, masked_sites))
            weights.append(WORLD.length / masked_sites)
    masked = torch.tensor(masks).repeat(len(sequences), 1)
    x0 = sequences.repeat_interleave(len(masks), dim=0)
    weight = (torch.tensor(weights, dtype=torch.double).unsqueeze(1) * torch.tensor(masks)).repeat(len(sequences), 1)
    views = Views(
        xt=x0.masked_fill(masked, process.mask).unsqueeze(1),
        t=torch.full((len(x0), 1), 0.5),
        x0=x0,
        weight=weight.unsqueeze(1),
        hazard=weight.unsqueeze(1),
    )
    return Cases(views, (law.unsqueeze(1) * torch.tensor(shares, dtype=torch.double)).flatten())


def finished_cases(policy: Denoiser) -> Cases:
    """Finished sequences, L views of each: every site masked alone."""
    sequences, process = WORLD.sequences, WORLD.absorbing()
    weight = torch.eye(WORLD.length, dtype=torch.double).expand(len(sequences), -1, -1)
    xt = sequences.unsqueeze(1).masked_fill(weight > 0, process.mask)
    views = Views(xt, torch.full(xt.shape[:2], 0.5), sequences, weight, weight)
    return Cases(views, first_hitting_law(policy, WORLD).detach())


def mean_gradient(policy: Denoiser, cases: Cases, returns: Tensor) -> Tensor:
    """E[return x sum of weight x grad log p(x0_i | x_t)] over all cases."""
    log_prob = (cases.views.weight * read(policy, cases.views).log_prob).sum((1, 2))
    return torch.autograd.grad((cases.probability * returns * log_prob).sum(), [*policy.network.parameters()])[0]


def second_moment(policy: Denoiser, cases: Cases, returns: Tensor) -> float:
    """E|gradient|^2 over the logits of a table: views of one sequence lie at different states, so their squares add."""
    with torch.no_grad():
        log_posterior = read(policy, cases.views, whole=True).log_posterior
    assert log_posterior is not None
    law = log_posterior.exp()
    tokens = cases.views.x0.unsqueeze(1).expand(law.shape[:-1])
    squares = 1 - 2 * pick(law, tokens) + law.square().sum(-1)
    per_case = (cases.views.weight.square() * squares).sum((1, 2))
    return float((cases.probability * returns.square() * per_case).sum())


def measure(policy: Denoiser, cases: Cases, reward: Law) -> Measured:
    exact = torch.autograd.grad(expected_reward(policy, WORLD, reward), [*policy.network.parameters()])[0]
    law = first_hitting_law(policy, WORLD).detach()
    centred = (reward - (law * reward).sum())[WORLD.index(cases.views.x0)]
    deviation = float((law * (reward - (law * reward).sum()).square()).sum().sqrt())
    mean = mean_gradient(policy, cases, centred)
    shifted = mean_gradient(policy, cases, centred + deviation)
    evaluations = cases.views.xt.shape[1]
    variance = (second_moment(policy, cases, centred) - float(mean.square().sum())) / float(exact.square().sum())
    return Measured(
        evaluations,
        float((mean - exact).norm() / exact.norm()),
        float((shifted - exact).norm() / exact.norm()),
        float((mean * exact).sum() / mean.norm() / exact.norm()),
        variance * evaluations,
    )


def readings(policy: Denoiser) -> dict[str, Cases]:
    next_site, all_sites = path_cases(policy, NextSite(None)), path_cases(policy, AllSites(None))
    finished = finished_cases(policy)
    every = tuple(range(1, WORLD.length + 1))
    return {
        "next_site, all states": next_site,
        "next_site, 1 state": next_site.alone(),
        "all_sites, all states": all_sites,
        "all_sites, 1 state": all_sites.alone(),
        "fresh_masks, 1 mask": mask_cases(policy, every),
        "finished, all sites": finished,
        "finished, 1 site": finished.alone(),
    }


def average(found: list[Measured]) -> Measured:
    columns = zip(*(vars(each).values() for each in found), strict=True)
    values = [sum(column) / len(found) for column in columns]
    return Measured(int(values[0]), *values[1:])


REWARDS: dict[str, Callable[[int], Law]] = {
    "random": lambda seed: random_reward(WORLD, seed),
    "parity": lambda seed: parity(WORLD),
    "count": lambda seed: count(WORLD, letter=seed % WORLD.letters),
}


def table(noise: float, reward: Callable[[int], Law], seeds: int) -> dict[str, Measured]:
    """Each reading, averaged over worlds: data laws, noise and rewards of their own."""
    found: dict[str, list[Measured]] = {}
    for seed in range(seeds):
        policy = tabular(WORLD, markov_chain(WORLD, seed), noise, seed)
        for name, cases in readings(policy).items():
            found.setdefault(name, []).append(measure(policy, cases, reward(seed)))
    return {name: average(each) for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", choices=REWARDS, default="random")
    parser.add_argument("--seeds", type=int, default=3, help="worlds that are averaged over")
    parser.add_argument("--out", type=Path, default=Path("runs/exact_gradients.json"))
    arguments = parser.parse_args()
    results: dict[str, object] = {"reward": arguments.reward, "seeds": arguments.seeds}
    for noise in NOISE:
        found = table(noise, REWARDS[arguments.reward], arguments.seeds)
        results[str(noise)] = {name: vars(each) for name, each in found.items()}
        print(f"\nnoise on the logits {noise}" + (": the ideal denoiser" if noise == 0 else ""))
        print(f"{'reading':24}{'evaluations':>12}{'bias':>10}{'+ constant':>12}{'cosine':>9}{'var x evaluations':>19}")
        for name, each in found.items():
            print(
                f"{name:24}{each.evaluations:>12}{each.bias:>10.4f}{each.bias_with_constant:>12.4f}"
                f"{each.cosine:>9.4f}{each.variance_times_evaluations:>19.1f}"
            )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2))
    print(f"\nwrote {arguments.out}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
