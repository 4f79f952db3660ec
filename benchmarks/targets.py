"""What a policy gradient aims at: E[R] - beta KL(law of paths || reference's) of the sampler that draws rollouts."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from laboratory import Setting, flat_gradient
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.objectives import kernel_objective, left_to_right_objective
from sepo.evaluation.values import objective_and_gradient
from sepo.samplers import FirstHitting, KernelSampler, LeftToRight


@dataclass(frozen=True)
class Target:
    """old: the policy that draws; new: the one that is updated; gradient: the exact one at `new`, flat."""

    old: Denoiser
    new: Denoiser
    gradient: Tensor


def exact_gradient(setting: Setting, policy: Denoiser) -> Tensor:
    """Of the target, flat, in float64."""
    world, reward, beta = setting.world, setting.reward, setting.beta
    if isinstance(setting.sampler, FirstHitting):
        _, parts = objective_and_gradient(policy, setting.reference, world, reward, beta)
        return torch.cat([part.flatten() for part in parts]).double()
    if isinstance(setting.sampler, LeftToRight):
        value = left_to_right_objective(policy, setting.reference, world, reward, beta)
    else:
        assert isinstance(setting.sampler, KernelSampler)
        value = kernel_objective(setting.sampler, policy, setting.reference, world, reward, beta)
    return flat_gradient(value, policy).double()


def moved(setting: Setting, policy: Denoiser, updates: int, rate: float = 5e-4) -> Denoiser:
    """The policy after so many steps up the exact gradient."""
    network = copy.deepcopy(policy.network)
    new, optimizer = policy.on(network), torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(updates):
        flat = -exact_gradient(setting, new)
        weights = [*network.parameters()]
        for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
            weight.grad = part.view_as(weight).to(weight.dtype)
        optimizer.step()
    return new


def targets(setting: Setting, policy: Denoiser, distances: tuple[int, ...], away: int = 4) -> dict[int, Target]:
    """By how many exact updates lie between the policy that draws and the one that is updated.

    away: updates from the reference to the policy that draws, so that the KL has a slope there.
    """
    start = moved(setting, policy, away)
    found = {}
    for distance in distances:
        new = moved(setting, start, distance) if distance else start
        found[distance] = Target(start, new, exact_gradient(setting, new))
    return found
