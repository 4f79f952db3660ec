r"""Exact answers by enumeration: the law of a sampler, objectives and their gradients, and where fine-tuning ends.

First-hitting visits a masked state z with probability W(z), all masks with certainty, and

    W(z with site i set to v) += W(z) p(x0_i = v | z) / (number of masks in z)

so that its law over finished sequences is a sum over subsets of sites, differentiable in the network. Samplers with a
kernel on a grid of times have the law start . K_1 . K_2 ..., K[x, y] = prod_i k_i(y_i | x). Fine-tuning with path KL at
beta reward per nat has the optimum

    p*(x) = p_ref(x) exp(R(x) / beta) / Z
"""

from __future__ import annotations

import math
from itertools import combinations, permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.process import Absorbing
from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.worlds import Law, World, at_time
from sepo.ops import divergence
from sepo.samplers import KernelSampler

Visits = Float[Tensor, " states"]


def first_hitting_law(
    policy: Denoiser, world: World, steps: int | None = None, start: Int[Tensor, " length"] | None = None
) -> Law:
    """The law of `FirstHitting(steps)` over `world.sequences`; start: a masked state instead of all masks.

    Raises:
        ValueError: the process is not absorbing, or the network sees the time.
    """
    return visits(policy, world, steps, start)[world.state_index(world.sequences)]


def visits(
    policy: Denoiser, world: World, steps: int | None = None, start: Int[Tensor, " length"] | None = None
) -> Visits:
    """The probability that first-hitting visits each of `world.states`."""
    return visits_of(log_posterior(policy, world).exp(), world, steps, start)


def visits_of(
    posterior: Float[Tensor, "states length vocab"],
    world: World,
    steps: int | None = None,
    start: Int[Tensor, " length"] | None = None,
) -> Visits:
    """The same from the posterior at each of `world.states`."""
    start = torch.full((world.length,), world.letters) if start is None else start
    masked = world.states == world.letters
    free = int((start == world.letters).sum())
    weight = torch.zeros(len(world.states), dtype=posterior.dtype)
    weight[world.state_index(start.unsqueeze(0))] = 1.0
    left = free
    for size in shares(free, steps):
        level = masked.sum(1) == left
        for sites in combinations(range(world.length), size):
            weight = weight + _reveal(weight, posterior, world, level & masked[:, sites].all(1), sites, left)
        left -= size
    return weight


def shares(free: int, steps: int | None) -> list[int]:
    """How many sites each step of `FirstHitting(steps)` reveals."""
    if steps is None or steps >= free:
        return [1] * free
    order = [rank * steps // free for rank in range(free)]
    return [order.count(step) for step in range(steps)]


def kernel_law(sampler: KernelSampler, policy: Denoiser, world: World) -> Law:
    """The law of a sampler on a time grid over `world.sequences`, by products of its kernels between all states."""
    absorbing = isinstance(policy.process, Absorbing)
    space = world.states if absorbing else world.sequences
    weight = torch.full((len(space),), 1 / len(space), dtype=torch.double)
    if absorbing:
        weight = (space == world.letters).all(1).double()
    for step in range(sampler.steps):
        weight = weight @ transition(sampler.kernel(policy, space, torch.full((len(space),), step)).double(), space)
    return weight[world.state_index(world.sequences)] if absorbing else weight


def transition(
    kernel: Float[Tensor, "states length vocab"], space: Int[Tensor, "states length"]
) -> Float[Tensor, "states states"]:
    """The matrix of a kernel that moves every site on its own: from row to column.

    Raises:
        ValueError: the matrix would not fit into memory.
    """
    if len(space) > 4096:
        raise ValueError(f"{len(space)} states: a matrix between more than 4,096 is too large; take a smaller world.")
    matrix = kernel[:, 0, space[:, 0]]
    for site in range(1, space.shape[1]):
        matrix = matrix * kernel[:, site, space[:, site]]
    return matrix


def expected_reward(policy: Denoiser, world: World, reward: Law, steps: int | None = None) -> Float[Tensor, ""]:
    """J = E[R] under first-hitting, differentiable: its gradient is what every policy gradient estimates."""
    return (first_hitting_law(policy, world, steps) * reward).sum()


def path_divergence(policy: Denoiser, reference: Denoiser, world: World) -> Float[Tensor, ""]:
    """KL in nats between the laws of the paths of one-site-per-step first-hitting, differentiable.

    sum_z W(z) (1 / number of masks) sum over masked sites of KL(p(. | z) || p_ref(. | z))
    """
    masked = world.states == world.letters
    per_site = divergence(log_posterior(policy, world), log_posterior(reference, world)).masked_fill(~masked, 0.0)
    return (visits(policy, world) * per_site.sum(1) / masked.sum(1).clamp_min(1)).sum()


def optimum(reference: Law, reward: Law, beta: float) -> Law:
    """p_ref exp(R / beta) / Z, where p_ref is the law of the reference sampler; beta is reward per nat."""
    return (reference.log() + reward / beta).softmax(0)


def kl(law: Law, reference: Law) -> Float[Tensor, ""]:
    """KL(law || reference) in nats."""
    return torch.where(law > 0, law * (law.clamp_min(1e-300) / reference).log(), 0.0).sum()


def total_variation(law: Law, other: Law) -> Float[Tensor, ""]:
    """Half the sum of absolute differences: the largest difference that any event can show."""
    return (law - other).abs().sum() / 2


def all_paths(world: World, start: Int[Tensor, " length"] | None = None) -> MaskedPath:
    """Every path of one-site-per-step first-hitting: all orders of the free sites, and all tokens there.

    Its log_prob is 0; `path_probabilities` rates it for a policy.
    """
    start = torch.full((world.length,), world.letters) if start is None else start
    sites = (start == world.letters).nonzero().squeeze(1)
    orders = torch.full((math.factorial(len(sites)), world.length), -1)
    orders[:, sites] = torch.tensor(list(permutations(range(len(sites)))))
    agreeing = ((world.sequences == start) | (start == world.letters)).all(1)
    x0 = world.sequences[agreeing].repeat(len(orders), 1)
    order = orders.repeat_interleave(int(agreeing.sum()), dim=0)
    canvas = Canvas(torch.where(order < 0, start, 0), order >= 0)
    times = (1 - (torch.arange(len(sites)) + 0.5) / len(sites)).expand(len(x0), -1)
    return MaskedPath(canvas, x0, order, times, torch.zeros(x0.shape, dtype=torch.double))


def path_probabilities(policy: Denoiser, paths: MaskedPath) -> Float[Tensor, " batch"]:
    """p(order) prod_i p(x0_i | state before site i appeared) of each path."""
    log_prob = path_log_prob(policy, paths, at_once=4096).sum(1)
    return log_prob.exp() / math.factorial(paths.steps)


def rated(policy: Denoiser, paths: MaskedPath) -> MaskedPath:
    """The same paths with the policy's log-probabilities, as a rollout of it would hold."""
    with torch.no_grad():
        return MaskedPath(paths.canvas, paths.x0, paths.order, paths.times, path_log_prob(policy, paths, at_once=4096))


def log_posterior(
    policy: Denoiser, world: World, states: Int[Tensor, "states length"] | None = None
) -> Float[Tensor, "states length vocab"]:
    """log p(x0_i = v | z) at `states`; None: all of `world.states`."""
    if not isinstance(policy.process, Absorbing) or not policy.time_free:
        raise ValueError(
            f"Subsets are enumerated for time-free networks of the absorbing process, not for "
            f"{type(policy.process).__name__} with time_free={policy.time_free}; use kernel_law."
        )
    states = world.states if states is None else states
    return policy.log_posterior(states, at_time(0.5, len(states)))


def _reveal(weight: Visits, posterior: Tensor, world: World, here: Tensor, sites: tuple[int, ...], left: int) -> Visits:
    """What the states marked `here`, with `left` masks, pass on when these sites are revealed together."""
    source = here.nonzero().squeeze(1)
    flow = weight[source].unsqueeze(1) / math.comb(left, len(sites))
    target = source.unsqueeze(1)
    for site in sites:
        stride = (world.letters + 1) ** (world.length - 1 - site)
        moved = target.unsqueeze(-1) + stride * (torch.arange(world.letters) - world.letters)
        flow = (flow.unsqueeze(-1) * posterior[source, site, : world.letters].unsqueeze(1)).flatten(1)
        target = moved.flatten(1)
    return torch.zeros_like(weight).index_add(0, target.flatten(), flow.flatten())
