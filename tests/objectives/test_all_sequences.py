"""SNIS over all sequences: it tends to the enumerated q(y), it feeds the theorem, and where it stops short."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sepo.evaluation.exact import expected_reward, first_hitting_law, transition
from sepo.evaluation.worlds import Law, World, count, ideal_uniform, markov_chain, parity, random_reward
from sepo.objectives.all_sequences import AllSequences
from tests.objectives.test_gradients import exact_gradient
from tests.worlds import DEEP, SMALL, denoisers

KEPT = torch.tensor([0.3], dtype=torch.double)
SEQUENCES, LAW = SMALL.sequences, markov_chain(SMALL)


def noise() -> Tensor:
    """q_t(y | z) of the uniform process: every site kept with probability .3, else redrawn."""
    per_site = SMALL.uniform().given_start(SEQUENCES, KEPT.expand(27))
    return transition(per_site, SEQUENCES)


def posterior(law: Law) -> Tensor:
    """q(z | y), exactly."""
    joint = law.unsqueeze(0) * noise().T
    return joint / joint.sum(1, keepdim=True)


def site_by_site() -> Tensor:
    """The law that a denoiser proposes: every site from its own posterior given y."""
    time = SMALL.uniform().schedule.time(KEPT)
    per_site = ideal_uniform(SMALL, LAW).log_posterior(SEQUENCES, time.expand(27)).exp().detach()
    return transition(per_site, SEQUENCES)


def error(estimate: AllSequences, draws: int, log_q: Tensor, goal: Tensor) -> float:
    """Root mean square over 32 repeats and all y, relative to the mean of q."""
    repeats = []
    for seed in range(32):
        uniform = torch.rand(27, draws, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
        repeats.append((estimate(log_q, uniform) - goal).square().mean())
    return math.sqrt(float(torch.stack(repeats).mean())) * 27


@pytest.mark.parametrize("proposal", ["site by site", "posterior", "anything"])
def test_it_tends_to_the_enumerated_q_with_one_over_the_root_of_the_draws(proposal: str) -> None:
    rows = {
        "site by site": site_by_site,
        "posterior": lambda: posterior(LAW),
        "anything": lambda: torch.full((27, 27), 1 / 27).double(),
    }
    estimate = AllSequences(noise(), rows[proposal]())
    goal = estimate.exact(LAW.log())
    torch.testing.assert_close(goal, LAW @ noise())
    errors = [error(estimate, draws, LAW.log() + 3.0, goal) for draws in (64, 256, 1024, 4096)]
    assert all(fine < 0.75 * coarse for coarse, fine in pairwise(errors)), errors
    assert 4.5 < errors[0] / errors[-1] < 12, errors  # 8 in the limit; weights with long tails are slow to get there
    assert errors[-1] < 0.05


def test_all_of_the_posteriors_error_is_in_the_normaliser() -> None:
    """w q(y | z) = q(y) for every z, so that the estimate is q(y) over the mean of the weights."""
    rows = posterior(LAW)
    weight = LAW.unsqueeze(0) / rows
    torch.testing.assert_close(weight * noise().T, (LAW @ noise()).unsqueeze(1).expand(27, 27))
    torch.testing.assert_close((rows * weight).sum(1), torch.ones(27, dtype=torch.double))


def test_a_constant_in_log_q_changes_nothing() -> None:
    estimate = AllSequences(noise(), site_by_site())
    uniform = torch.rand(27, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimate(LAW.log(), uniform), estimate(LAW.log() - 7.0, uniform))


def test_over_one_sites_candidates_it_tends_to_the_local_softmax() -> None:
    """A kernel and a proposal that redraw one site: q(y) over the mass of the candidates, not q(y)."""
    mine = (SEQUENCES[:, 1:].unsqueeze(0) == SEQUENCES[:, 1:].unsqueeze(1)).all(-1).double()
    conditional = mine * LAW / (mine @ LAW).unsqueeze(1)
    estimate = AllSequences(conditional, mine / 3)
    uniform = torch.rand(27, 4096, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    local = LAW / (mine @ LAW)
    torch.testing.assert_close(estimate(LAW.log(), uniform), local, rtol=1e-9, atol=0)
    torch.testing.assert_close(estimate.exact(LAW.log()), LAW)


def test_rows_that_are_no_laws_are_refused() -> None:
    with pytest.raises(ValueError, match=r"A row of the proposal sums to 1 within 1"):
        AllSequences(noise(), 2 * noise())


def theorem(law: Tensor, reward: Law, weight: Tensor) -> Tensor:
    """-E R(x) sum_y w(x, y) log s(x)_y, the number whose gradient Theorem 3.1 is about."""
    log_score = law.log().unsqueeze(0) - law.log().unsqueeze(1)
    return -(law.detach() * reward * (weight * log_score).sum(1)).sum()


def cosine(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum() / first.norm() / second.norm())


def test_the_theorem_with_sampled_q_tends_to_the_policy_gradient() -> None:
    """q(y) from SNIS in place of the enumerated one, the noise kernel's time taken to 0."""
    policy, reward = denoisers(SMALL)["noisy"], random_reward(SMALL)
    exact = exact_gradient(policy, expected_reward(policy, SMALL, reward))
    off = []
    for draws in (16, 256, 4096):
        law = first_hitting_law(policy, SMALL)
        anywhere = AllSequences(torch.eye(27).double(), torch.full((27, 27), 1 / 27).double())
        uniform = torch.rand(27, draws, dtype=torch.double, generator=torch.Generator().manual_seed(5))
        weight = anywhere(law.detach().log(), uniform).unsqueeze(0).expand(27, -1)
        found = exact_gradient(policy, theorem(law, reward, weight))
        off.append(float((found - exact).norm() / exact.norm()))
    assert off[0] > 2 * off[1] > 4 * off[2] and off[2] < 0.15


@pytest.mark.parametrize("world", [SMALL, DEEP], ids=str)
@pytest.mark.parametrize("network", ["ideal", "noisy", "arbitrary"])
def test_neighbours_one_site_away_turn_the_gradient_by_a_known_angle(network: str, world: World) -> None:
    """All y: the gradient exactly. Hamming distance 1 only, as released: a cosine of .87 to .99
    here (.7 to .95 on longer toys)."""
    policy = denoisers(world)[network]
    law = first_hitting_law(policy, world)
    apart = (world.sequences.unsqueeze(0) != world.sequences.unsqueeze(1)).sum(-1)
    cosines = {}
    for name, reward in (("random", random_reward(world)), ("count", count(world)), ("parity", parity(world))):
        law = first_hitting_law(policy, world)
        parameters = [*policy.network.parameters()]
        exact = torch.autograd.grad((law * reward).sum(), parameters, retain_graph=True)[0]
        every, near = law.detach().expand(len(law), -1), law.detach() * (apart == 1)
        whole = torch.autograd.grad(theorem(law, reward, every), parameters, retain_graph=True)[0]
        torch.testing.assert_close(whole, exact, rtol=1e-7, atol=1e-9)
        cosines[name] = cosine(torch.autograd.grad(theorem(law, reward, near), parameters)[0], exact)
    assert all(0.8 < value < 0.995 for value in cosines.values()), cosines
