r"""Values of masked states under one-site-per-step first-hitting, from the last step to the first, and exact gradients.

    V(z) = mean over masked sites i of Q(z, i),   Q(z, i) = sum_v p(v | z) [V(z with i set to v) - cost]

and with the cost of path KL, beta log p(v | z) / p_ref(v | z), the value of all masks is E[R] - beta KL(paths) itself.
By the policy gradient theorem its gradient is one pass over the states, with W(z) their visits and V held fixed:

    sum_z W(z) / m(z)  sum over masked i  grad sum_v p(v | z) [V(z with i set to v) - beta log p(v | z) / p_ref(v | z)]

so that worlds of 65,536 sequences and 390,625 masked states need the memory of one chunk of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.exact import first_hitting_law, log_posterior, visits_of
from sepo.evaluation.worlds import Law, Table, World, look_up

PerState = Float[Tensor, " states"]
PerSite = Float[Tensor, "states length"]
Combine = Callable[[Int[Tensor, " rows"], int, Float[Tensor, "rows letters"]], Float[Tensor, " rows"]]
"""combine(rows of `world.states`, site, values after each letter there) -> Q."""
AT_ONCE = 8192
"""States through the network together."""


def site_values(policy: Denoiser, world: World, reward: Law) -> PerSite:
    """E[R | state z, site i is filled next] of one-site-per-step first-hitting; V(z) where i is not masked."""
    posterior = everywhere(policy, world).exp()
    value, per_site = backwards(world, reward, _mean_under(posterior))
    return torch.where(world.states == world.letters, per_site, value.unsqueeze(1))


def state_values(policy: Denoiser, world: World, reward: Law) -> PerState:
    """V(z) = E[R | z] of every one of `world.states`: the mean over its masked sites, each as likely to come next."""
    return backwards(world, reward, _mean_under(everywhere(policy, world).exp()))[0]


def best_law(reference: Denoiser, world: World, reward: Law, beta: float) -> Law:
    """The law of the policy that maximises E[R] - beta KL(path || reference's path), one site per step.

    It is `optimum` if the reference is consistent, else only nearly, because no policy chooses the order of the sites.

    By values: V(z) = mean over masked sites of beta log sum_v p_ref(v | z) exp(V(z with site i set to v) / beta), and
    p(v | z) proportional to the summand.
    """
    ahead = everywhere(reference, world)
    logits = torch.zeros_like(ahead)

    def tilted(here: Tensor, site: int, values: Tensor) -> Tensor:
        logits[here, site, : world.letters] = ahead[here, site, : world.letters] + values / beta
        return beta * logits[here, site, : world.letters].logsumexp(1)

    backwards(world, reward, tilted)
    return first_hitting_law(Denoiser(Table(world, logits), world.absorbing(), look_up), world).detach()


def objective_and_gradient(
    policy: Denoiser, reference: Denoiser, world: World, reward: Law, beta: float
) -> tuple[float, list[Tensor]]:
    """E[R] - beta KL(path || reference's path) of one-site-per-step first-hitting, and its gradient.

    One tensor per parameter of the policy's network, in their order.
    """
    ahead, log_p = everywhere(reference, world)[..., : world.letters], everywhere(policy, world)[..., : world.letters]
    visited, masked = visits_of(log_p.exp(), world), world.states == world.letters

    def paid(here: Tensor, site: int, values: Tensor) -> Tensor:
        ratio = log_p[here, site] - ahead[here, site]
        return (log_p[here, site].exp() * (values - beta * ratio)).sum(1)

    value, _ = backwards(world, reward, paid)
    weight = visited / masked.sum(1).clamp_min(1)
    parameters = [*policy.network.parameters()]
    gradient = [torch.zeros_like(each) for each in parameters]
    reached = (masked.any(1) & (visited > 0)).nonzero().squeeze(1)
    for here in reached.split(AT_ONCE):
        current = log_posterior(policy, world, world.states[here])[..., : world.letters]
        gain = value[_after(world, here)] - beta * (current - ahead[here])
        term = (weight[here, None] * (current.exp() * gain).sum(-1)).masked_fill(~masked[here], 0.0).sum()
        for total, part in zip(gradient, torch.autograd.grad(term, parameters, allow_unused=True), strict=True):
            total += 0 if part is None else part
    blank = torch.full((1, world.length), world.letters)
    return float(value[world.state_index(blank)]), gradient


@torch.no_grad()
def backwards(world: World, reward: Law, combine: Combine) -> tuple[PerState, PerSite]:
    """V of every state and Q of every masked site of it (0 elsewhere), from the finished sequences to all masks."""
    masked = world.states == world.letters
    value = torch.zeros(len(world.states), dtype=torch.double)
    value[world.state_index(world.sequences)] = reward.double()
    per_site = torch.zeros(world.states.shape, dtype=torch.double)
    for left in range(1, world.length + 1):
        level = masked.sum(1) == left
        for site in range(world.length):
            here = (level & masked[:, site]).nonzero().squeeze(1)
            per_site[here, site] = combine(here, site, value[_after(world, here, site)]).double()
        value[level] = per_site[level].sum(1) / left
    return value, per_site


@torch.no_grad()
def everywhere(policy: Denoiser, world: World) -> Float[Tensor, "states length vocab"]:
    """log p(x0_i = v | z) at every masked state, a chunk at a time, in float64."""
    return torch.cat([log_posterior(policy, world, part).double() for part in world.states.split(AT_ONCE)])


def _mean_under(posterior: Tensor) -> Combine:
    letters = posterior.shape[-1] - 1
    return lambda here, site, values: (posterior[here, site, :letters] * values).sum(1)


def _after(world: World, here: Int[Tensor, " rows"], site: int | None = None) -> Int[Tensor, "rows *sites letters"]:
    """The states that follow `here` when a site, or each one, is set to each letter; row 0 where it is not masked."""
    letters, strides = torch.arange(world.letters) - world.letters, (world.letters + 1) ** torch.arange(world.length)
    if site is not None:
        return here.unsqueeze(1) + int(strides[world.length - 1 - site]) * letters
    after = here[:, None, None] + strides.flip(0)[:, None] * letters
    return after.masked_fill((world.states[here] != world.letters).unsqueeze(-1), 0)
