"""What the laboratory's benchmarks share: a collection of experience on a world, and the gradient of a method there.

The pieces are those of the trainer (samplers, credit, objectives); what is left out is the trainer itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.evaluation.worlds import Law, World
from sepo.objectives import Advantage, Credit, Loss, Objective
from sepo.objectives.advantages import leave_one_out, unit
from sepo.objectives.baselines import revealed_tokens
from sepo.objectives.returns import whole
from sepo.ops import Chance
from sepo.samplers import SAMPLERS, Ancestral, KernelSampler, Sampler, roll, transitions_log_prob
from sepo.training.crediting import ByCritic
from sepo.training.elites import Elites, Replay, learned_again, with_replay
from sepo.training.experience import rollout_reading

ROLLOUT, VIEWS, REPLAY = 0, 1, 2
"""Purposes of chance."""
UNIFORM_STEPS = 6
"""Ancestral steps of rollouts under the uniform process."""


@dataclass(frozen=True)
class Setting:
    """A world, the reward of each of its sequences, the price of a nat, the reference and the sampler of rollouts."""

    world: World
    reward: Law
    beta: float
    reference: Denoiser
    sampler: Sampler


@dataclass(frozen=True)
class Method:
    """A way of fine-tuning.

    objective: built for the sampler of a setting, its price of nats and its reward; priced: nats are paid for in the
    return, else by the objective alone; rescaled: its stated expectation is a gradient only up to a factor, so that it
    is compared after the best positive rescaling; enumerable: its mean over all paths can be summed exactly; returns:
    at the steps, from rewards, log-ratios and the price; critic: values are learned and stand for a comparison; replay:
    the best sequences so far are learned again, which is no estimate of a gradient.
    """

    name: str
    objective: Callable[[Setting], Objective]
    advantage: Advantage = field(default_factory=lambda: Advantage(leave_one_out, unit))
    sampler: str | None = None
    priced: bool = True
    rescaled: bool = False
    enumerable: bool = False
    returns: Callable[[Tensor, Tensor, float], Tensor] = whole
    critic: ByCritic | None = None
    replay: Replay | None = None


@dataclass(frozen=True)
class Collection:
    rollout: Rollout
    credit: Credit


def collect(setting: Setting, method: Method, policy: Denoiser, batch: int, seed: int) -> Collection:
    """Rollouts of the policy, and the credit that the method gives them."""
    chance = Chance.seeded(seed, [0], batch, purpose=ROLLOUT)
    rollout = roll(setting.sampler, policy, Canvas.blank(batch, setting.world.length), chance)
    if method.critic is not None:
        _, reward, log_ratio, price = returns_of(setting, method, rollout)
        return Collection(rollout, method.critic(policy, rollout, reward, price, log_ratio, lambda each: each))
    return Collection(rollout, credit_of(setting, method, rollout))


def credit_of(setting: Setting, method: Method, rollout: Rollout) -> Credit:
    returns, reward, log_ratio, _ = returns_of(setting, method, rollout)
    process = setting.reference.process
    features = revealed_tokens(rollout, returns.shape[1], process) if method.advantage.states else None
    return Credit(method.advantage(returns, len(reward), features), reward, log_ratio)


@torch.no_grad()
def returns_of(setting: Setting, method: Method, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns at each step, rewards, the path's log-ratio to the reference, and the price of each step in reward."""
    reward = setting.reward[setting.world.index(rollout.x0)].float()
    own = rollout.per_step(rollout.log_prob).float()
    ratio = torch.zeros_like(own)
    beta = setting.beta if method.priced else 0.0
    if beta:
        ratio = own - rollout.per_step(reference_log_prob(setting, rollout)).float()
    return method.returns(reward, ratio, beta), reward, ratio.sum(1), beta * ratio


def sampler_of(method: Method, process: str, world: World) -> Sampler:
    """One site per step for masks, or as many ancestral steps as sites; `UNIFORM_STEPS` for the uniform process."""
    if process == "uniform":
        return Ancestral(UNIFORM_STEPS)
    if method.sampler == "ancestral":
        return Ancestral(world.length)
    return SAMPLERS[method.sampler or "first_hitting"]()


def reference_log_prob(setting: Setting, rollout: Rollout) -> Tensor:
    """Of what the rollout drew, per site as its own log_prob."""
    if isinstance(rollout, MaskedPath):
        return path_log_prob(setting.reference, rollout)
    assert isinstance(setting.sampler, KernelSampler)
    return transitions_log_prob(setting.sampler, setting.reference, rollout)


def loss_of(
    setting: Setting, objective: Objective, collected: Collection, old: Denoiser, new: Denoiser, seed: int
) -> Tensor:
    """The method's loss at `new` on what `old` collected; old is read at the same views where it must be."""
    batch = len(collected.rollout.x0)
    views = objective.views(collected.rollout, new.process, Chance.seeded(seed, [0], batch, purpose=VIEWS))
    reading = objective.read(new, views)
    if objective.reads_rollout and not objective.old_whole:
        before = rollout_reading(collected.rollout, views)
    elif old.network is new.network and not objective.old_whole:
        before = reading.detach()
    else:
        with torch.no_grad():
            before = objective.read(old, views)
    ahead = None
    if objective.uses_reference:
        with torch.no_grad():
            ahead = objective.read_reference(setting.reference, views, reading)
    return objective.loss(reading, before, ahead, collected.credit.at(views.step), views).value


def replay_loss(how: Replay, elites: Elites, policy: Denoiser, batch: int, seed: int) -> Tensor:
    """The bound on the likelihood of elites as a loss, of as many as a batch has sequences."""
    chance = Chance.seeded(seed, [0], batch, purpose=REPLAY)
    views = learned_again(elites, how, Canvas.blank(batch, elites.tokens.shape[1]).free, policy.process, chance)
    return with_replay(Loss(torch.zeros(()), {}), policy, views, how).value


def flat_gradient(value: Tensor, policy: Denoiser) -> Tensor:
    parts = torch.autograd.grad(value, [*policy.network.parameters()], allow_unused=True)
    zeros = [torch.zeros_like(weight) for weight in policy.network.parameters()]
    return torch.cat([(zero if part is None else part).flatten() for part, zero in zip(parts, zeros, strict=True)])


def metered(policy: Denoiser) -> Denoiser:
    """The same policy with a meter of its own."""
    return replace(policy, meter=Meter())
