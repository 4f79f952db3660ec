"""The worlds that ship with the laboratory: a data law, a reward for every sequence, small networks trained on the law.

chain    V=3, L=4   a Markov chain; reward: how often one letter occurs
ising    V=2, L=6   a ring of spins, p ~ exp(0.6 sum s_i s_(i+1)); reward: the share of walls between unlike spins
parity   V=2, L=6   a Markov chain; reward: 1 if the letters sum to an even number, which no single site reveals
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import factorial

import torch
from torch import Tensor, nn

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import denoising_loss
from sepo.diffusion.valued import Valued
from sepo.evaluation.worlds import Law, World, count, markov_chain, parity
from sepo.ops import Chance, rows

FULL = 1000
"""Steps of pretraining, until it is as good as it gets; a half-trained network has had a tenth."""


@dataclass(frozen=True)
class LabWorld:
    """beta: reward per nat at which methods are compared; law: of the data that the networks are pretrained on.

    width, steps: of those networks.
    """

    name: str
    world: World
    law: Callable[[World], Law]
    reward: Callable[[World], Law]
    beta: float = 0.1
    width: int = 64
    steps: int = FULL

    @property
    def small(self) -> bool:
        """Whether the kernel of a sampler between all states is a small matrix."""
        return len(self.world.states) <= 4096

    @property
    def processes(self) -> tuple[str, ...]:
        """Both in a small world."""
        return ("absorbing", "uniform") if self.small else ("absorbing",)

    @property
    def paths(self) -> int:
        """Of one-site-per-step first-hitting: orders times sequences."""
        return factorial(self.world.length) * len(self.world.sequences)


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


class OneHot(nn.Module):
    """Ids as numbers, [batch length size]; soft tokens stand in for them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.one_hot(ids, self.size).float()


class Perceptron(nn.Module):
    """One-hot sites and, if `timed`, the noise level; two hidden layers; logits for every site."""

    def __init__(self, world: World, size: int, timed: bool, width: int = 64) -> None:
        super().__init__()
        self.size, self.timed, self.one_hot = size, timed, OneHot(size)
        self.layers = nn.Sequential(
            nn.Linear(world.length * size + timed, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, world.length * size),
        )

    def forward(self, xt: Tensor, sigma: Tensor) -> Tensor:
        flat = self.one_hot(xt).flatten(1)
        if self.timed:
            flat = torch.cat([flat, torch.exp(-sigma).float().unsqueeze(1)], dim=1)
        return self.layers(flat).unflatten(1, (xt.shape[1], self.size))

    def get_input_embeddings(self) -> nn.Module:
        return self.one_hot


def call(network: nn.Module, xt: Tensor, sigma: Tensor, attend: Tensor | None, sites: Tensor | None) -> Tensor:
    logits = network(xt, sigma)
    return logits if sites is None else rows(logits, sites)


class WithValues(nn.Module):
    """(logits, values): a policy's network with a critic beside it, a perceptron on the same one-hot sites."""

    def __init__(self, actor: Perceptron, length: int, width: int = 64) -> None:
        super().__init__()
        self.actor = actor
        self.critic = nn.Sequential(nn.Linear(length * actor.size, width), nn.SiLU(), nn.Linear(width, length))

    def forward(
        self, xt: Tensor, sigma: Tensor, attend: Tensor | None = None, sites: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        values = self.critic(self.actor.one_hot(xt).flatten(1))
        logits = call(self.actor, xt, sigma, attend, sites)
        return logits, values if sites is None else values.gather(1, sites)


def with_values(policy: Denoiser, seed: int) -> Denoiser:
    """The policy with a critic that knows nothing yet."""
    torch.manual_seed(seed)
    return replace(policy, network=WithValues(policy.network, policy.length), call=Valued())  # type: ignore[arg-type]


def pretrained(lab: LabWorld, process: str, steps: int | None = None, seed: int = 0, batch: int = 256) -> Denoiser:
    """Trained on draws from the data law; a perceptron is close to it and nearly, never quite, consistent."""
    torch.manual_seed(seed)
    steps = lab.steps if steps is None else steps
    world, uniform = lab.world, process == "uniform"
    kind = world.uniform() if uniform else world.absorbing()
    network = Perceptron(world, kind.size, uniform, lab.width)
    policy = Denoiser(network, kind, call, time_free=not uniform, length=world.length)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    cumulative = lab.law(world).cumsum(0)
    for step in range(steps):
        chance = Chance.seeded(seed, [step], batch, purpose=9)
        x0 = world.sequences[torch.searchsorted(cumulative, chance.uniform().double() * cumulative[-1], right=True)]
        loss = denoising_loss(policy, x0, x0 >= 0, chance, draws=2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return policy
