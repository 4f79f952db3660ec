r"""Exact objectives of other samplers than first-hitting: left to right, and those with a kernel on a grid of times.

    J = E[R] - beta KL(law of paths || reference's),   KL = sum over steps of E over states of sum_i KL(k_i || k_ref,i)

differentiable in the policy, so that grad J is what a policy gradient of that sampler estimates.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.exact import transition
from sepo.evaluation.worlds import Law, World, at_time
from sepo.ops import divergence
from sepo.samplers import KernelSampler

Scalar = Float[Tensor, ""]


def left_to_right_law(policy: Denoiser, world: World) -> Law:
    """The law of `LeftToRight()` over `world.sequences`: a product of conditionals."""
    log_law = torch.zeros(len(world.sequences), dtype=torch.double)
    for site in range(world.length):
        posterior = _next_site(policy, world, site)
        log_law = log_law + posterior[torch.arange(len(posterior)), world.sequences[:, site]]
    return log_law.exp()


def left_to_right_objective(policy: Denoiser, reference: Denoiser, world: World, reward: Law, beta: float) -> Scalar:
    law = left_to_right_law(policy, world)
    price = torch.zeros_like(law)
    for site in range(world.length):
        price = price + divergence(_next_site(policy, world, site), _next_site(reference, world, site))
    return (law * (reward - beta * price)).sum()


def kernel_objective(
    sampler: KernelSampler, policy: Denoiser, reference: Denoiser, world: World, reward: Law, beta: float
) -> Scalar:
    """By products of the kernels between all states of the world."""
    absorbing = isinstance(policy.process, Absorbing)
    space = world.states if absorbing else world.sequences
    weight = torch.full((len(space),), 1 / len(space), dtype=torch.double)
    if absorbing:
        weight = (space == world.letters).all(1).double()
    price = weight.new_zeros(())
    for index in range(sampler.steps):
        step = torch.full((len(space),), index)
        kernel = sampler.kernel(policy, space, step).double()
        if beta:
            with torch.no_grad():
                ahead = sampler.kernel(reference, space, step).double()
            price = price + (weight * divergence(_log(kernel), _log(ahead)).sum(1)).sum()
        weight = weight @ transition(kernel, space)
    law = weight[world.state_index(world.sequences)] if absorbing else weight
    return (law * reward).sum() - beta * price


def _next_site(policy: Denoiser, world: World, site: int) -> Float[Tensor, "sequences vocab"]:
    """log p(x0_site = . | the sites before it) for every sequence: one evaluation for each prefix."""
    same = world.letters ** (world.length - site)
    prefix = world.sequences[::same].masked_fill(torch.arange(world.length) >= site, world.letters)
    posterior = policy.log_posterior(prefix, at_time(0.5, len(prefix)))[:, site].double()
    return posterior.repeat_interleave(same, dim=0)


def _log(law: Tensor) -> Tensor:
    """-inf at zero, with a finite slope elsewhere."""
    return torch.where(law > 0, law, 1.0).log().masked_fill(law <= 0, -torch.inf)
