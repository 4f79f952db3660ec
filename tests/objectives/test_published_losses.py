"""What published methods minimise, away from the old policy: each loss worked out from single evaluations.

The masks are written down, and log p of a token is read from the policy one state at a time, so that the formula in the
test shares nothing with the views and levels of the library. Where a method has an expectation of its own, every path
and every mask is enumerated.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import exp, log

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.exact import all_paths, first_hitting_law
from sepo.evaluation.worlds import markov_chain, random_reward, random_table, tabular
from sepo.objectives import Credit, Objective
from sepo.objectives.coupled_grpo import CoupledGRPO
from sepo.objectives.diffu_grpo import DiffuGRPO
from sepo.objectives.espo import Espo
from sepo.objectives.just_grpo import JustGRPO
from sepo.objectives.sdpo import Sdpo
from sepo.objectives.spg import Spg
from sepo.objectives.step_merge import StepMerge
from sepo.objectives.trace_rl import TraceRL
from sepo.objectives.trajectory_balance import TrajectoryBalance
from sepo.objectives.trajectory_pg import TrajectoryPG
from sepo.objectives.uni_grpo import UniGRPO
from sepo.objectives.wd1 import Wd1
from sepo.objectives.wdce import Wdce
from sepo.ops import Chance
from tests.objectives.test_gradients import Enumerated, exact_gradient
from tests.worlds import SMALL, Written, denoisers

OLD, NEW = random_table(SMALL, seed=1), random_table(SMALL, seed=3)
REFERENCE = tabular(SMALL, markov_chain(SMALL), noise=0.3)
X = SMALL.sequences[torch.tensor([5, 11, 16, 22])]
ORDER = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]])
ADVANTAGE = (1.0, -0.5, 0.8, -2.0)
ALL = (0, 1, 2)
ROWS = range(4)
DRAWN = torch.tensor([[0.3, 0.1, 0.9, 0.4], [0.6, 0.8, 0.3, 0.5], [0.9, 0.7, 0.2, 0.1], [0.1, 0.6, 0.4, 0.9]])
"""A noise level for each sequence, and numbers that order its sites."""


def path(order: Tensor = ORDER) -> MaskedPath:
    times = (1 - torch.arange(3) / 3).double().expand(4, -1)
    made = MaskedPath(Canvas.blank(4, 3), X, order, times, torch.zeros(4, 3, dtype=torch.double))
    return MaskedPath(made.canvas, X, order, times, path_log_prob(OLD, made).detach())


def value(objective: Objective, drawn: Tensor | None = None, rolled: MaskedPath | None = None) -> float:
    """Of the new policy on rollouts of the old one."""
    numbers = torch.zeros(4, 0) if drawn is None else drawn
    rolled = path() if rolled is None else rolled
    seen = objective.views(rolled, OLD.process, Written.down(numbers))
    new, old, ahead = (objective.read(policy, seen).detach() for policy in (NEW, OLD, REFERENCE))
    return float(objective.loss(new, old, ahead, Credit.of(torch.tensor(ADVANTAGE).double()), seen).value)


def log_p(policy: Denoiser, row: int, masked: Sequence[int]) -> list[float]:
    """log p(x_i | x with these sites masked) of each of them."""
    state = X[row].clone()
    state[list(masked)] = 3
    law = policy.log_posterior(state.unsqueeze(0), torch.tensor([0.5]))[0].detach()
    return [float(law[site, X[row, site]]) for site in masked]


def ppo(new: float, old: float, row: int, epsilon: float) -> float:
    ratio, advantage = exp(new - old), ADVANTAGE[row]
    return -min(ratio * advantage, min(max(ratio, 1 - epsilon), 1 + epsilon) * advantage)


def k3(new: float, other: float) -> float:
    return exp(other - new) - 1 - (other - new)


def by_step(row: int, steps: Sequence[int]) -> list[int]:
    """The sites that appear in these steps."""
    return [site for site in ALL if int(ORDER[row, site]) in steps]


def two_segments(policy: Denoiser, row: int) -> tuple[list[float], list[float]]:
    """What the first two steps reveal, read where everything is masked; what the last one does, read before it."""
    full = log_p(policy, row, ALL)
    return [full[site] for site in by_step(row, (0, 1))], log_p(policy, row, by_step(row, (2,)))


def test_trajectory_pg_clips_the_product_of_what_a_step_reveals() -> None:
    order = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1]])
    expected = 0.0
    for row in ROWS:
        for step in (0, 1):
            masked = [site for site in ALL if int(order[row, site]) >= step]
            appears = [int(order[row, site]) == step for site in masked]
            new, old = (
                sum(each for each, seen in zip(log_p(policy, row, masked), appears, strict=True) if seen)
                for policy in (NEW, OLD)
            )
            expected += ppo(new, old, row, 0.2) / 4
    assert value(TrajectoryPG().objective(), rolled=path(order)) == pytest.approx(expected)


def test_just_grpo_is_a_mean_over_tokens_of_their_own_ratios() -> None:
    expected = 0.0
    for row in ROWS:
        for step in ALL:
            masked, site = by_step(row, range(step, 3)), by_step(row, (step,))[0]
            new, old = (log_p(policy, row, masked)[masked.index(site)] for policy in (NEW, OLD))
            expected += ppo(new, old, row, 0.2) / 12
    assert value(JustGRPO().objective()) == pytest.approx(expected)


def test_step_merge_reads_a_segment_at_its_first_state() -> None:
    expected = 0.0
    for row in ROWS:
        new, old, ahead = ([*chain(*two_segments(policy, row))] for policy in (NEW, OLD, REFERENCE))
        expected += sum(ppo(a, b, row, 0.5) + 0.1 * k3(a, c) for a, b, c in zip(new, old, ahead, strict=True)) / 12
    assert value(StepMerge(segments=2, kl_coef=0.1).objective()) == pytest.approx(expected)


def test_trace_rl_counts_views_alike_and_stays_near_the_old_policy() -> None:
    expected = 0.0
    for row in ROWS:
        for new, old in zip(two_segments(NEW, row), two_segments(OLD, row), strict=True):
            terms = [ppo(a, b, row, 0.2) for a, b in zip(new, old, strict=True)]
            near = sum(k3(a, b) for a, b in zip(new, old, strict=True))
            expected += sum(terms) / len(terms) / 8 + 0.05 * near / 4
    assert value(TraceRL(shrink=2, old_kl_coef=0.05).objective()) == pytest.approx(expected)


def test_diffu_grpo_reads_every_token_with_all_of_them_masked() -> None:
    expected = 0.0
    for row in ROWS:
        new, old, ahead = (log_p(policy, row, ALL) for policy in (NEW, OLD, REFERENCE))
        expected += sum(ppo(a, b, row, 0.5) + 0.04 * k3(a, c) for a, b, c in zip(new, old, ahead, strict=True)) / 12
    objective = DiffuGRPO(kl_coef=0.04).objective()
    assert value(objective, torch.zeros(4, 1, 3)) == pytest.approx(expected)


def test_coupled_grpo_adds_up_a_token_over_a_mask_and_its_complement() -> None:
    def estimate(policy: Denoiser, row: int) -> list[float]:
        p, full = 0.2 + 0.6 * float(DRAWN[row, 0]), log_p(policy, row, ALL)
        masked = [site for site in ALL if DRAWN[row, 1 + site] < p]
        rest = [site for site in ALL if site not in masked]
        part = {site: each / p for site, each in zip(masked, log_p(policy, row, masked), strict=True)}
        part |= {site: each / (1 - p) for site, each in zip(rest, log_p(policy, row, rest), strict=True)}
        return [(full[site] + part[site]) / 2 for site in ALL]

    expected = 0.0
    for row in ROWS:
        new, old, ahead = (estimate(policy, row) for policy in (NEW, OLD, REFERENCE))
        expected += sum(ppo(a, b, row, 0.5) + 0.01 * k3(a, c) for a, b, c in zip(new, old, ahead, strict=True)) / 12
    objective = CoupledGRPO(kl_coef=0.01).objective()
    assert value(objective, DRAWN.unsqueeze(1)) == pytest.approx(expected)


def lowest(numbers: Tensor, count: int) -> list[int]:
    return sorted(numbers.argsort()[:count].tolist())


def test_wd1_is_minus_the_weighted_log_probability_whatever_the_old_policy() -> None:
    expected = -sum(ADVANTAGE[row] * sum(log_p(NEW, row, ALL)) for row in ROWS) / 4
    assert value(Wd1().objective(), torch.zeros(4, 1, 3)) == pytest.approx(expected)


def test_espo_has_one_ratio_of_bounds_per_sequence() -> None:
    def bound(policy: Denoiser, row: int) -> float:
        first = lowest(DRAWN[row, 1:], int(DRAWN[row, 0] * 4))
        halves = (first, [site for site in ALL if site not in first])
        return sum(4 / len(half) * sum(log_p(policy, row, half)) for half in halves if half) / 2

    expected = 0.0
    for row in ROWS:
        new, old, ahead = (bound(policy, row) for policy in (NEW, OLD, REFERENCE))
        expected += ppo(new / 3, old / 3, row, 0.2) / 4 + 0.01 * (new - ahead) ** 2 / 2 / 3 / 4
    assert value(Espo(pairs=1, kl_coef=0.01).objective(), DRAWN.unsqueeze(1)) == pytest.approx(expected)


TWO = torch.stack([DRAWN, DRAWN.flip(0)], dim=1)


def two_masks(row: int) -> list[list[int]]:
    """The first of one or two sites, the second of two or three: the number masked is stratified."""
    counts = [int((view + float(TWO[row, view, 0])) / 2 * 3) + 1 for view in (0, 1)]
    return [lowest(TWO[row, view, 1:], counts[view]) for view in (0, 1)]


def test_uni_grpo_is_a_mean_over_the_tokens_of_each_mask() -> None:
    expected = 0.0
    for row in ROWS:
        for masked in two_masks(row):
            new, old = log_p(NEW, row, masked), log_p(OLD, row, masked)
            expected += sum(ppo(a, b, row, 0.2) for a, b in zip(new, old, strict=True)) / len(masked) / 8
    assert value(UniGRPO(masks=2).objective(), TWO) == pytest.approx(expected)


def test_spg_pushes_up_a_lower_bound_and_down_a_mixture() -> None:
    b, omega, expected = 1.5, 0.3, 0.0
    for row in ROWS:
        views = [dict(zip(masked, log_p(NEW, row, masked), strict=True)) for masked in two_masks(row)]
        lower = sum(sum(view.values()) / len(view) for view in views) / 2
        logs = []
        for site in {site for view in views for site in view}:
            terms = [exp(b * view[site]) / (len(view) / 3) for view in views if site in view]
            logs.append(log(sum(terms) / 2))
        upper = sum(logs) / len(logs) / b
        chosen = lower if ADVANTAGE[row] > 0 else omega * upper + (1 - omega) * lower
        expected -= ADVANTAGE[row] * chosen / 4
    assert value(Spg(2, b, omega).objective(), TWO) == pytest.approx(expected)


def test_wdce_is_pretraining_on_weighted_sequences() -> None:
    expected = 0.0
    for row in ROWS:
        bound = sum(3 / len(masked) * sum(log_p(NEW, row, masked)) for masked in two_masks(row)) / 2
        expected -= ADVANTAGE[row] * bound / 4
    assert value(Wdce(masks=2).objective(), TWO) == pytest.approx(expected)


def balance(reward: Tensor) -> tuple[float, float]:
    """The loss of the library, and beta/2 (log Z + log p / p_ref - r / beta)^2 with log Z of the group."""
    beta, rolled = 0.3, path()
    algorithm = TrajectoryBalance(beta)
    new, old, ahead = (path_log_prob(policy, rolled).sum(1).detach() for policy in (NEW, OLD, REFERENCE))
    log_z = (reward / beta - (old - ahead)).nanmean()
    residual = log_z + (new - ahead) - reward / beta
    credit = Credit.of(algorithm.advantage()(reward - beta * (old - ahead), 4), reward, old - ahead)
    seen = algorithm.objective().views(rolled, OLD.process, Written.down(torch.zeros(4, 0)))
    readings = (algorithm.objective().read(policy, seen).detach() for policy in (NEW, OLD))
    found = algorithm.objective().loss(*readings, None, credit, seen).value
    return float(found), float(beta / 2 * residual.square().nansum() / 4)


@pytest.mark.parametrize("reward", [[0.1, 0.9, 0.4, 0.0], [0.1, float("nan"), 0.4, 0.0]], ids=["all", "one unknown"])
def test_trajectory_balance_is_a_squared_residual_of_what_is_known(reward: list[float]) -> None:
    found, expected = balance(torch.tensor(reward).double())
    assert found == pytest.approx(expected)


def test_sdpo_compares_at_one_noise_level_with_masks_of_their_own() -> None:
    objective, eight = Sdpo(together=4).objective(), path()[torch.arange(8) % 4]
    masked = [objective.views(eight, OLD.process, Chance.of(seed, 8)).xt[:, 0] == 3 for seed in range(20)]
    counts = torch.stack(masked).sum(-1)
    assert (counts[:, :4] == counts[:, :1]).all() and (counts[:, 4:] == counts[:, 4:5]).all()
    assert (counts[:, 0] != counts[:, 4]).any() and set(counts.flatten().tolist()) == {1, 2, 3}
    assert any(not torch.equal(each[0], each[1]) for each in masked)


def repeated(every: Enumerated, times: int) -> Enumerated:
    rows = torch.arange(len(every.paths)).repeat_interleave(times)
    return Enumerated(every.policy, every.world, every.paths[rows], every.probability[rows] / times)


def numbers(counts: int) -> Tensor:
    """Every order of the sites at `counts` noise levels, as uniform numbers [masks, 1 + sites]."""
    orders = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]) / 3
    levels = (torch.arange(counts) + 0.5) / counts
    return torch.cat([levels.repeat_interleave(6).unsqueeze(1), orders.repeat(counts, 1)], dim=1)


def bound_gradient(policy: Denoiser, law: Tensor) -> Tensor:
    """Of the expected likelihood bound: the mean over orders of log p(path), under a law of sequences."""
    paths = all_paths(SMALL)
    return exact_gradient(policy, (law[SMALL.index(paths.x0)] / 6 * path_log_prob(policy, paths).sum(1)).sum())


def test_wdce_descends_the_divergence_from_the_optimum() -> None:
    """Weights of the old policy's paths make them stand for p_ref exp(r / beta) / Z, whatever the old policy."""
    policy, reference, reward, beta = denoisers(SMALL)["noisy"], random_table(SMALL, seed=9), random_reward(SMALL), 0.5
    every = Enumerated.of(policy, SMALL)
    log_ratio = (every.paths.log_prob - path_log_prob(reference, every.paths).detach()).sum(1)
    weight = ((every.per_path(reward) - beta * log_ratio) / beta).exp()
    weight = weight / (every.probability * weight).sum()
    drawn = numbers(3)
    chance = Written.down(drawn.repeat(len(every.paths), 1).unsqueeze(1))
    found = repeated(every, len(drawn)).gradient(
        Wdce(masks=1, beta=beta).objective(), weight.repeat_interleave(len(drawn)), chance
    )
    optimum = first_hitting_law(reference, SMALL).detach() * (reward / beta).exp()
    exact = -bound_gradient(policy, optimum / optimum.sum())
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-9)


def test_espo_at_the_old_policy_is_the_gradient_of_the_bound_per_token() -> None:
    policy, reward = denoisers(SMALL)["arbitrary"], random_reward(SMALL)
    every = Enumerated.of(policy, SMALL)
    drawn = numbers(4)
    chance = Written.down(drawn.repeat(len(every.paths), 1).unsqueeze(1))
    returns = every.per_path(reward).repeat_interleave(len(drawn))
    found = -repeated(every, len(drawn)).gradient(Espo(pairs=1).objective(), returns, chance)
    exact = bound_gradient(policy, first_hitting_law(policy, SMALL).detach() * reward) / 3
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-9)
