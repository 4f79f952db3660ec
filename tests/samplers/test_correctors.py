"""Correctors leave their marginal as it is, to the order that is claimed, and bring other laws closer to it."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.rollout import StatePath
from sepo.evaluation.exact import kernel_law, kl, total_variation, transition
from sepo.evaluation.objectives import kernel_objective
from sepo.evaluation.worlds import World, at_time, ideal_uniform, markov_chain, random_reward, random_table, tabular
from sepo.objectives import SEPO, Credit, Transitions
from sepo.ops import Chance
from sepo.samplers import Ancestral, Gibbs, KernelSampler, PredictorCorrector, ReMDM, roll
from tests.worlds import SMALL, at_step, deviations

DATA = markov_chain(SMALL, seed=1)
PROCESSES = ("absorbing", "uniform")


def ideal(process: str, world: World = SMALL) -> Denoiser:
    law = markov_chain(world, seed=1)
    return tabular(world, law) if process == "absorbing" else ideal_uniform(world, law)


def space(policy: Denoiser, world: World = SMALL) -> Tensor:
    return world.states if policy.time_free else world.sequences


def marginal(policy: Denoiser, t: float, world: World = SMALL) -> Tensor:
    """q_t over the space, from the data law."""
    law, states = markov_chain(world, seed=1), space(policy, world)
    alpha = policy.process.schedule.alpha(at_time(t, len(world.sequences)))
    per_site = policy.process.given_start(world.sequences, alpha)
    forward = per_site[:, torch.arange(world.length), states].prod(-1)
    return law @ forward


def corrector(policy: Denoiser, size: float, step: int = 1) -> tuple[Tensor, float]:
    """The matrix of the corrector move at the first grid time after 1, and that time."""
    sampler = PredictorCorrector(2, 1, size)
    t, _, corrects = sampler.moves[step]
    assert corrects
    states = space(policy)
    return transition(sampler.kernel(policy, states, at_step(step, states)).detach().double(), states), t


@pytest.mark.parametrize("process", PROCESSES)
def test_a_corrector_step_leaves_the_marginal_as_it_is_to_second_order(process: str) -> None:
    policy = ideal(process)
    errors = []
    for size in (0.2, 0.1, 0.05, 0.025):
        matrix, t = corrector(policy, size)
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.double), rtol=0, atol=1e-6)
        law = marginal(policy, t)
        errors.append(float(total_variation(law @ matrix, law)))
    ratios = [coarse / fine for coarse, fine in pairwise(errors)]
    assert all(3.3 < ratio < 4.7 for ratio in ratios[1:]), (errors, ratios)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("process", PROCESSES)
def test_corrector_steps_bring_another_law_closer_monotonically(process: str) -> None:
    policy = ideal(process)
    matrix, t = corrector(policy, 0.05)
    goal = marginal(policy, t)
    law = (goal + 0.02) / (goal + 0.02).sum()
    divergence = [float(kl(law, goal))]
    for _ in range(30):
        law = law @ matrix
        divergence.append(float(kl(law, goal)))
    assert all(after < before for before, after in pairwise(divergence))
    assert divergence[-1] < 0.3 * divergence[0]


@pytest.mark.parametrize("process", PROCESSES)
def test_correctors_make_a_coarse_grid_better(process: str) -> None:
    policy = ideal(process)
    with torch.no_grad():
        coarse = float(total_variation(kernel_law(Ancestral(3), policy, SMALL), DATA))
        corrected = [
            float(total_variation(kernel_law(PredictorCorrector(3, steps, 0.2), policy, SMALL), DATA))
            for steps in (1, 4, 16)
        ]
    assert coarse > corrected[0] > corrected[1] > corrected[2]


@pytest.mark.parametrize("strategy", ["cap", "rescale"])
def test_remasking_converges_at_first_order(strategy: str) -> None:
    policy = tabular(SMALL, DATA)
    with torch.no_grad():
        errors = [
            float(total_variation(kernel_law(ReMDM(steps, 0.1, strategy), policy, SMALL), DATA))
            for steps in (32, 64, 128)
        ]
        still = float(total_variation(kernel_law(ReMDM(8, 0.0, strategy), policy, SMALL), DATA))
        ancestral = float(total_variation(kernel_law(Ancestral(8), policy, SMALL), DATA))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.02
    assert still == pytest.approx(ancestral, rel=1e-5)


def test_remasking_one_site_keeps_every_marginal_exactly() -> None:
    world = World(letters=3, length=1)
    law = markov_chain(world, seed=1)
    policy = tabular(world, law)
    for sampler in (ReMDM(6, 0.7, "rescale"), ReMDM(6, 0.3, "cap")):
        for step in range(5):
            before, after = (marginal(policy, 1 - (step + k) / 6, world) for k in (0, 1))
            matrix = transition(
                sampler.kernel(policy, world.states, at_step(step, world.states)).detach(), world.states
            )
            torch.testing.assert_close(before @ matrix.double(), after, rtol=0, atol=1e-6)


def test_gibbs_sweeps_keep_the_law_and_repair_another() -> None:
    policy = tabular(SMALL, DATA)
    kept = roll(Gibbs(sweeps=2.0), policy, Canvas.blank(8000, 3), Chance.of(0, 8000))
    assert abs(deviations(SMALL, kept.x0, DATA)) < 4
    at_once = roll(Gibbs(steps=1, sweeps=0.0), policy, Canvas.blank(8000, 3), Chance.of(1, 8000))
    assert deviations(SMALL, at_once.x0, DATA) > 20
    repaired = roll(Gibbs(steps=1, sweeps=6.0), policy, Canvas.blank(8000, 3), Chance.of(1, 8000))
    assert abs(deviations(SMALL, repaired.x0, DATA)) < 5


def test_given_tokens_are_not_touched() -> None:
    tokens, free = torch.tensor([[1, 0, 2]]), torch.tensor([[False, True, False]])
    for sampler in (PredictorCorrector(3, 2), ReMDM(4), Gibbs(sweeps=3.0)):
        found = roll(sampler, tabular(SMALL, DATA), Canvas(tokens, free).repeat(30), Chance.of(0, 30))
        assert isinstance(found, StatePath)
        assert (found.states[:, :, 0] == 1).all() and (found.states[:, :, 2] == 2).all()
        assert found.x0[:, 1].unique().numel() > 1


def every_path(sampler: KernelSampler, policy: Denoiser, world: World) -> tuple[StatePath, Tensor]:
    """All sequences of states from all starts, and their probabilities."""
    states = space(policy, world)
    number = len(states)
    with torch.no_grad():
        matrices = [
            transition(sampler.kernel(policy, states, at_step(step, states)).double(), states)
            for step in range(sampler.steps)
        ]
        per_site = [sampler.kernel(policy, states, at_step(step, states)).double() for step in range(sampler.steps)]
    start = torch.full((number,), 1 / number, dtype=torch.double)
    if policy.time_free:
        start = (states == world.letters).all(1).double()
    visited = torch.tensor(list(product(range(number), repeat=sampler.steps + 1)))
    probability = start[visited[:, 0]]
    for step, matrix in enumerate(matrices):
        probability = probability * matrix[visited[:, step], visited[:, step + 1]]
    visited, probability = visited[probability > 0], probability[probability > 0]
    log_prob = torch.stack(
        [
            per_site[step][visited[:, step, None], torch.arange(world.length), states[visited[:, step + 1]]].log()
            for step in range(sampler.steps)
        ],
        dim=1,
    )
    canvas = Canvas.blank(len(visited), world.length)
    return StatePath(canvas, states[visited], torch.ones(visited.shape, dtype=torch.double), log_prob), probability


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        (PredictorCorrector(2, 1), "absorbing"),
        (PredictorCorrector(2, 1), "uniform"),
        (ReMDM(3, 0.5), "absorbing"),
        (Ancestral(3), "uniform"),
    ],
    ids=str,
)
def test_reading_every_transition_is_the_exact_policy_gradient_of_the_sampler(sampler, process: str) -> None:
    world = World(letters=2, length=2)
    policy = ideal(process, world) if process == "uniform" else random_table(world, seed=1)
    reward = random_reward(world)
    paths, probability = every_path(sampler, policy, world)
    objective = SEPO(Transitions(sampler.kernel, None))
    views = objective.views(paths, policy.process, Chance((), len(paths)))
    new = objective.read(policy, views)
    ended = world.index(paths.x0.clamp_max(world.letters - 1))
    credit = Credit.of(reward[ended] * probability * len(paths))
    value = objective.loss(new, new.detach(), None, credit, views).value
    weights = [*policy.network.parameters()]
    estimate = torch.autograd.grad(-value, weights)[0]
    exact = torch.autograd.grad(kernel_objective(sampler, policy, policy, world, reward, 0.0), weights)[0]
    assert exact.norm() > 1e-3
    torch.testing.assert_close(estimate, exact, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(new.log_prob.double(), paths.log_prob, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PredictorCorrector(0), "at least 1 predictor step"),
        (lambda: PredictorCorrector(4, 1, size=0.9), "size=0.9"),
        (lambda: ReMDM(4, eta=2.0), "eta=2.0"),
        (lambda: ReMDM(4, strategy="conf"), "strategy='conf': choose one of cap, rescale"),
        (lambda: Gibbs(sweeps=-1.0), "sweeps=-1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
