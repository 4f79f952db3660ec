"""The worlds that ship with the laboratory: a data law, a reward for every sequence, small networks trained on the law.

chain    V=3, L=4   a Markov chain; reward: how often one letter occurs
ising    V=2, L=6   a ring of spins, p ~ exp(0.6 sum s_i s_(i+1)); reward: the share of walls between unlike spins
parity   V=2, L=6   a Markov chain; reward: 1 if the letters sum to an even number, which no single site reveals
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import denoising_loss
from sepo.evaluation.worlds import Law, World, count, markov_chain, parity
from sepo.ops import Chance, draw, rows

FULL, HALF = 1000, 100
"""Steps of pretraining: until it is as good as it gets, and a tenth of that."""


@dataclass(frozen=True)
class LabWorld:
    """beta: reward per nat at which methods are compared; law: of the data that the networks are pretrained on."""

    name: str
    world: World
    law: Callable[[World], Law]
    reward: Callable[[World], Law]
    beta: float = 0.1


def ising(world: World, coupling: float = 0.6) -> Law:
    spins = 2.0 * world.sequences.double() - 1
    return (coupling * (spins * spins.roll(-1, 1)).sum(1)).softmax(0)


def walls(world: World) -> Law:
    return (world.sequences != world.sequences.roll(-1, 1)).double().mean(1)


LAB_WORLDS = (
    LabWorld("chain", World(3, 4), markov_chain, lambda world: count(world, 1) / world.length),
    LabWorld("ising", World(2, 6), ising, walls),
    LabWorld("parity", World(2, 6), lambda world: markov_chain(world, 0), parity),
)


class Perceptron(nn.Module):
    """One-hot sites and, if `timed`, the noise level; two hidden layers; logits for every site."""

    def __init__(self, world: World, size: int, timed: bool, width: int = 64) -> None:
        super().__init__()
        self.size, self.timed = size, timed
        self.layers = nn.Sequential(
            nn.Linear(world.length * size + timed, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, world.length * size),
        )

    def forward(self, xt: Tensor, sigma: Tensor) -> Tensor:
        flat = nn.functional.one_hot(xt, self.size).flatten(1).float()
        if self.timed:
            flat = torch.cat([flat, torch.exp(-sigma).float().unsqueeze(1)], dim=1)
        return self.layers(flat).unflatten(1, (xt.shape[1], self.size))


def call(network: nn.Module, xt: Tensor, sigma: Tensor, attend: Tensor | None, sites: Tensor | None) -> Tensor:
    logits = network(xt, sigma)
    return logits if sites is None else rows(logits, sites)


def pretrained(lab: LabWorld, process: str, steps: int = FULL, seed: int = 0, batch: int = 256) -> Denoiser:
    """Trained on draws from the data law; a perceptron is close to it and nearly, never quite, consistent."""
    torch.manual_seed(seed)
    world, uniform = lab.world, process == "uniform"
    kind = world.uniform() if uniform else world.absorbing()
    network = Perceptron(world, kind.size, uniform)
    policy = Denoiser(network, kind, call, time_free=not uniform, length=world.length)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    law = lab.law(world).expand(batch, -1)
    for step in range(steps):
        chance = Chance.seeded(seed, [step], batch, purpose=9)
        x0 = world.sequences[draw(law, chance.uniform())]
        loss = denoising_loss(policy, x0, x0 >= 0, chance, draws=2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return policy
