r"""Where fine-tuning ends: SEPO against the optimum p_ref(x) exp(R(x) / beta) / Z, in worlds that can be enumerated.

A model is pretrained on draws from a Markov chain of 3 letters and 5 sites, and fine-tuned by SEPO, one token per step.
p_ref is the law of the reference sampler, by enumeration; so is the policy's. Printed along training is the total
variation between the policy's law and the optimum, with the KL

    in the return    return = R - beta log(p / p_ref)(path)           the exact gradient of E[R] - beta KL(path laws)
    as a loss term   the closed form per state, added to the loss     forgets that the policy chooses the states

Cases: a table (parameters of its own at every masked state) with a reward for even sums; a perceptron with a reward
for one letter; and, on request, a perceptron with the reward for even sums. The last stays at about .05: its first
steps push rare sequences out of reach, and what is never sampled has no gradient.

    python benchmarks/exact_convergence.py [--case table]      writes runs/exact_convergence.json
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import denoising_loss, path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.exact import first_hitting_law, kl, optimum, total_variation
from sepo.evaluation.values import best_law
from sepo.evaluation.worlds import Table, World, count, markov_chain, parity
from sepo.objectives import SEPO, Advantage, Credit, NextSite, Objective, PathKL, Total
from sepo.objectives.advantages import leave_one_out, unit
from sepo.ops import Chance, draw, rows
from sepo.samplers import FirstHitting, roll

WORLD = World(letters=3, length=5)
DATA = markov_chain(WORLD, seed=0)


@dataclass(frozen=True)
class Case:
    """A network to pretrain and a reward per sequence of WORLD."""

    network: Callable[[], nn.Module]
    reward: Tensor
    learning_rate: float


@dataclass(frozen=True)
class Settings:
    """beta: reward per nat; states: of each path, read per update."""

    beta: float = 0.25
    steps: int = 600
    batch: int = 512
    states: int | None = None
    pretraining_steps: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    step: int
    total_variation: float
    reward: float
    kl: float


class Perceptron(nn.Module):
    """One-hot sites, one hidden layer, logits for every site."""

    def __init__(self, world: World, width: int = 128) -> None:
        super().__init__()
        self.size = world.letters + 1
        self.layers = nn.Sequential(
            nn.Linear(world.length * self.size, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, world.length * self.size),
        )

    def forward(self, xt: Tensor) -> Tensor:
        flat = nn.functional.one_hot(xt, self.size).flatten(1).float()
        return self.layers(flat).unflatten(1, (xt.shape[1], self.size))


def flat_table() -> Table:
    return Table(WORLD, torch.zeros(*WORLD.states.shape, WORLD.letters + 1))


CASES = {
    "table": Case(flat_table, parity(WORLD), learning_rate=0.05),
    "perceptron": Case(lambda: Perceptron(WORLD), count(WORLD, letter=1) / 2, learning_rate=1e-3),
    "perceptron-parity": Case(lambda: Perceptron(WORLD), parity(WORLD), learning_rate=1e-3),
}


def call(network: nn.Module, xt: Tensor, sigma: Tensor, attend: Tensor | None, sites: Tensor | None) -> Tensor:
    logits = network(xt)
    return logits if sites is None else rows(logits, sites)


def pretrained(case: Case, settings: Settings) -> Denoiser:
    """Trained on draws from the data law; close to it, and nearly consistent."""
    torch.manual_seed(settings.seed)
    policy = Denoiser(case.network(), WORLD.absorbing(), call, length=WORLD.length)
    optimizer, schedule = cosine(policy.network, 3 * case.learning_rate, settings.pretraining_steps)
    law = DATA.expand(settings.batch, -1)
    for step in range(settings.pretraining_steps):
        chance = Chance.seeded(settings.seed, [step], settings.batch, purpose=2)
        x0 = WORLD.sequences[draw(law, chance.uniform())]
        loss = denoising_loss(policy, x0, x0 >= 0, chance, draws=2).mean()
        update(loss, optimizer, schedule)
    return policy


def fine_tune(
    reference: Denoiser, case: Case, settings: Settings, in_return: bool, every: int = 100
) -> Iterator[Progress]:
    """SEPO in a bare loop; the KL in the return or as a loss term."""
    policy = reference.on(copy.deepcopy(reference.network))
    plain = SEPO(NextSite(settings.states))
    objective: Objective = plain if in_return else Total(plain, ((settings.beta, PathKL()),))
    sampler, advantage = FirstHitting(), Advantage(leave_one_out, unit)
    canvas = Canvas.blank(settings.batch, WORLD.length)
    optimizer, schedule = cosine(policy.network, case.learning_rate, settings.steps)
    for step in range(settings.steps):
        if step % every == 0:
            yield progress(step, policy, reference, case, settings)
        path = roll(sampler, policy, canvas, Chance.seeded(settings.seed, [step], settings.batch))
        assert isinstance(path, MaskedPath)
        returns = case.reward[WORLD.index(path.x0)].float()
        if in_return:
            with torch.no_grad():
                returns = returns - settings.beta * (path.log_prob - path_log_prob(reference, path)).sum(1)
        views = objective.views(path, policy.process, Chance.seeded(settings.seed, [step], settings.batch, purpose=1))
        new = objective.read(policy, views)
        with torch.no_grad():
            ahead = objective.read(reference, views) if objective.uses_reference else None
        loss = objective.loss(new, new.detach(), ahead, Credit.of(advantage(returns, settings.batch)), views)
        update(loss.value, optimizer, schedule)
    yield progress(settings.steps, policy, reference, case, settings)


@torch.no_grad()
def law_of(policy: Denoiser) -> Tensor:
    return first_hitting_law(policy, WORLD).double()


def progress(step: int, policy: Denoiser, reference: Denoiser, case: Case, settings: Settings) -> Progress:
    law, before = law_of(policy), law_of(reference)
    goal = optimum(before, case.reward, settings.beta)
    return Progress(step, float(total_variation(law, goal)), float((law * case.reward).sum()), float(kl(law, before)))


def cosine(
    network: nn.Module, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def update(loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def run(case: Case, settings: Settings) -> dict[str, object]:
    """Both ways from one pretrained model, printed."""
    reference = pretrained(case, settings)
    law, reward = law_of(reference), case.reward
    goal = optimum(law, reward, settings.beta)
    facts = {
        "pretrained_to_data": float(total_variation(law, DATA)),
        "best_policy_to_optimum": float(total_variation(best_law(reference, WORLD, reward, settings.beta), goal)),
        "reward_of_reference": float((law * reward).sum()),
        "reward_of_optimum": float((goal * reward).sum()),
    }
    print("   ".join(f"{name} {value:.5f}" for name, value in facts.items()))
    results: dict[str, object] = dict(facts)
    for name, in_return in (("in the return", True), ("as a loss term", False)):
        print(f"\nKL {name}\n{'step':>6}{'total variation':>17}{'E[R]':>8}{'KL to p_ref':>13}")
        started, found = time.perf_counter(), []
        for each in fine_tune(reference, case, settings, in_return):
            found.append(vars(each))
            print(f"{each.step:>6}{each.total_variation:>17.4f}{each.reward:>8.3f}{each.kl:>13.4f}", flush=True)
        print(f"{time.perf_counter() - started:.0f} s")
        results[name] = found
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, nargs="+", default=["table", "perceptron"])
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--states", type=int, default=None, help="states of each path read per update; all by default")
    parser.add_argument("--beta", type=float, default=Settings.beta)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/exact_convergence.json"))
    chosen = vars(parser.parse_args())
    out, names = chosen.pop("out"), chosen.pop("case")
    settings, results = Settings(**chosen), {}
    for name in names:
        print(f"\n== {name}")
        results[name] = run(CASES[name], settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"settings": vars(settings)} | results, indent=2))
    print(f"\nwrote {out}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
