"""What the tests of guided samplers share: policies, rewards with and without gradient, exact soft values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.exact import kernel_law, total_variation, transition
from sepo.evaluation.worlds import Law, ideal_uniform, markov_chain, random_reward, random_table
from sepo.models import as_denoiser
from sepo.models.networks.positions import Learned as Positions
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.ops import Chance
from sepo.samplers import (
    Ancestral,
    KernelSampler,
    Sampler,
    roll,
)
from sepo.samplers.guided import (
    Learned,
)
from tests.worlds import SMALL, at_step

BETA, STEPS, MASK = 0.5, 3, 3
INNER = Ancestral(STEPS)
DATA = markov_chain(SMALL, seed=1)
REWARD = random_reward(SMALL, seed=3)
WEIGHT = torch.randn(3, 4, generator=torch.Generator().manual_seed(5))
WEIGHT[:, MASK] = 0.0
LINEAR = (nn.functional.one_hot(SMALL.sequences, 4) * WEIGHT).sum((1, 2)).double()


def by_table(table: Law) -> Callable[[Tensor], Tensor]:
    return lambda tokens: table[SMALL.index(tokens)]


def linear(soft: Tensor) -> Tensor:
    """A sum over sites."""
    return (soft * WEIGHT.to(soft)).sum((1, 2))


def pairs(soft: Tensor) -> Tensor:
    """How many neighbours are equal."""
    return (soft[:, 1:] * soft[:, :-1]).sum((1, 2))


PAIRS = pairs(nn.functional.one_hot(SMALL.sequences, 4).double())


def softly(seed: int = 0) -> Denoiser:
    """A small transformer, which reads soft tokens, neither flat nor certain."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        config = TransformerConfig(4, Positions(3), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        network = Transformer(config).eval()
        network.head.weight.normal_(std=0.5)
    return as_denoiser(network, SMALL.absorbing(), length=3)


def shares_of(tokens: Tensor) -> Law:
    return SMALL.index(tokens).bincount(minlength=len(SMALL.sequences)).double() / len(tokens)


def distance(sampler: Sampler, policy: Denoiser, goal: Law, rows: int = 20_000, seed: int = 0) -> float:
    """Total variation between `rows` draws and a law."""
    drawn = roll(sampler, policy, Canvas.blank(rows, 3), Chance.of(seed, rows)).x0
    return float(total_variation(shares_of(drawn), goal))


def law_of(inner: KernelSampler, policy: Denoiser) -> Law:
    with torch.no_grad():
        return kernel_law(inner, policy, SMALL)


@torch.no_grad()
def exact_value(inner: KernelSampler, policy: Denoiser, reward: Law, beta: float) -> Learned:
    """beta log E[exp(r / beta) | state] after each number of steps of the inner sampler, by its matrices."""
    masks = isinstance(policy.process, Absorbing)
    space = SMALL.states if masks else SMALL.sequences
    ahead = torch.zeros(len(space), dtype=torch.double)
    ahead[SMALL.state_index(SMALL.sequences) if masks else slice(None)] = (reward / beta).exp()
    found = [ahead]
    for step in reversed(range(inner.steps)):
        ahead = transition(inner.kernel(policy, space, at_step(step, space)).double(), space) @ ahead
        found.append(ahead)
    table = beta * torch.stack(found[::-1]).log()
    index = SMALL.state_index if isinstance(policy.process, Absorbing) else SMALL.index
    return Learned(lambda x, step: table[step, index(x)])


def policies() -> dict[str, Denoiser]:
    return {"absorbing": random_table(SMALL, seed=1), "uniform": ideal_uniform(SMALL, DATA)}


each_process = pytest.mark.parametrize("process", ["absorbing", "uniform"])


def uniform_transformer() -> Denoiser:
    config = TransformerConfig(3, Positions(3), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        network = Transformer(config).eval()
        network.head.weight.normal_(std=0.5)
    return as_denoiser(network, SMALL.uniform(), length=3)
