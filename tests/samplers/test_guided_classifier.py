"""Classifier guidance: the tilt is the derivative that it says it is, and exact where that can be proven."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.rollout import StatePath
from sepo.evaluation.exact import optimum, total_variation, transition
from sepo.evaluation.worlds import random_table
from sepo.ops import Chance
from sepo.samplers import (
    Ancestral,
    KernelSampler,
    PredictorCorrector,
    ReMDM,
    TauLeaping,
    roll,
    transitions_log_prob,
)
from sepo.samplers.guided import (
    ClassifierGuidance,
)
from tests.samplers.tilted import (
    BETA,
    INNER,
    LINEAR,
    MASK,
    PAIRS,
    STEPS,
    law_of,
    linear,
    pairs,
    policies,
    softly,
    uniform_transformer,
)
from tests.worlds import SMALL, at_step


@torch.no_grad()
def test_without_gamma_guidance_is_the_inner_sampler() -> None:
    cases = [(softly(), True), (softly(), False), (policies()["absorbing"], False), (uniform_transformer(), True)]
    for policy, through in cases:
        space = SMALL.states if policy.process.size == 4 else SMALL.sequences
        for inner in (INNER, TauLeaping(4), PredictorCorrector(2, 1, 0.1)):
            guided = ClassifierGuidance(inner, 0.0, pairs, through)
            assert isinstance(guided, KernelSampler) and guided.steps == inner.steps
            for step in range(inner.steps):
                laws = [each.kernel(policy, space, at_step(step, space)) for each in (guided, inner)]
                torch.testing.assert_close(*laws, rtol=1e-4, atol=1e-6)


class Apart(nn.Module):
    """Reads soft tokens and answers the same whatever they are."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.embedding, self.logits = nn.Embedding(4, 2, dtype=torch.double), nn.Parameter(logits)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    @staticmethod
    def call(network: nn.Module, xt: Tensor, sigma: Tensor, attend: Tensor | None, sites: Tensor | None) -> Tensor:
        assert isinstance(network, Apart)
        return network.logits + 0 * network.embedding(xt).sum(-1, keepdim=True)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_guidance_of_independent_sites_by_a_sum_over_sites_is_exact_on_any_grid(steps: int) -> None:
    policy = random_table(SMALL, seed=4)
    with torch.no_grad():
        policy.network.logits[:] = policy.network.logits[-1:]
    for inner in (Ancestral(steps), TauLeaping(steps)):
        goal = optimum(law_of(inner, policy), LINEAR, BETA)
        found = law_of(ClassifierGuidance(inner, 1 / BETA, linear, through_network=False), policy)
        torch.testing.assert_close(found, goal, rtol=1e-4, atol=1e-6)
        assert float(total_variation(law_of(inner, policy), goal)) > 0.2
    apart = Denoiser(Apart(policy.network.logits[-1].detach()), SMALL.absorbing(), Apart.call)
    goal = optimum(law_of(Ancestral(steps), apart), LINEAR, BETA)
    found = law_of(
        ClassifierGuidance(Ancestral(steps), 1 / BETA, linear), apart
    )  # through the network there is no more
    torch.testing.assert_close(found, goal, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_last_step_is_the_exact_tilt_of_the_inner_one_whatever_the_network() -> None:
    """For a sum over sites, with the prediction held fixed: from every state, between all finished sequences."""
    policy, states = random_table(SMALL, seed=4), SMALL.states
    last, finished = at_step(STEPS - 1, states), SMALL.state_index(SMALL.sequences)
    inner = transition(INNER.kernel(policy, states, last).double(), states)[:, finished]
    guided = ClassifierGuidance(INNER, 1 / BETA, linear, through_network=False)
    found = transition(guided.kernel(policy, states, last).double(), states)[:, finished]
    tilted = inner * (LINEAR / BETA).exp()
    torch.testing.assert_close(found, tilted / tilted.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_guidance_alone_is_not_exact_where_sites_depend_on_each_other() -> None:
    policy = softly()
    goal = optimum(law_of(INNER, policy), PAIRS, BETA)
    for through in (True, False):
        found = law_of(ClassifierGuidance(INNER, 1 / BETA, pairs, through), policy)
        error, inner = float(total_variation(found, goal)), float(total_variation(law_of(INNER, policy), goal))
        print(f"guidance, through_network={through}: {error:.3f}, inner {inner:.3f}")
        assert 0.02 < error < inner


@torch.no_grad()
def test_the_tilt_is_that_of_finite_differences_through_the_network() -> None:
    policy = softly()
    policy.network.double()
    states, step, gamma = SMALL.states[[63, 15, 61, 7]], 1, 0.7
    table = policy.network.get_input_embeddings().weight  # type: ignore[operator]

    def value(soft: Tensor) -> Tensor:
        handle = policy.network.get_input_embeddings().register_forward_hook(  # type: ignore[operator]
            lambda module, inputs, output: soft @ table
        )
        law = policy.logits(soft.argmax(-1), torch.ones(len(soft))).softmax(-1)
        handle.remove()
        letters = soft.clone()
        letters[..., MASK] = 0
        return pairs(letters + soft[..., MASK:] * law)

    hot = nn.functional.one_hot(states, 4).double()
    slope = torch.zeros(hot.shape, dtype=torch.double)
    for site in range(3):
        for token in range(4):
            moved = torch.zeros_like(hot)
            moved[:, site, token] = 1e-5
            slope[:, site, token] = (value(hot + moved) - value(hot - moved)) / 2e-5
    law = INNER.kernel(policy, states, at_step(step, states))
    goal = law * (gamma * (slope - slope[..., MASK:])).exp()
    goal = torch.where((states == MASK).unsqueeze(-1), goal / goal.sum(-1, keepdim=True), hot)
    found = ClassifierGuidance(INNER, gamma, pairs).kernel(policy, states, at_step(step, states))
    torch.testing.assert_close(found, goal, rtol=1e-4, atol=1e-6)
    alone = ClassifierGuidance(INNER, gamma, pairs).kernel(policy, states[1:2], at_step(step, states[1:2]))
    torch.testing.assert_close(alone, found[1:2])  # each row's own gradient, not that of a mean


@pytest.mark.parametrize("process", ["masks that come back", "uniform"])
def test_moves_of_guidance_are_rated_by_its_kernel(process: str) -> None:
    policy = uniform_transformer() if process == "uniform" else softly()
    sampler = ClassifierGuidance(INNER if process == "uniform" else ReMDM(4, 0.5), 1.0, pairs)
    path = roll(sampler, policy, Canvas.blank(40, 3), Chance.of(0, 40))
    assert isinstance(path, StatePath)
    torch.testing.assert_close(transitions_log_prob(sampler, policy, path), path.log_prob, rtol=1e-4, atol=1e-5)
    assert path.times[0].tolist() == pytest.approx([1 - k / sampler.steps for k in range(sampler.steps + 1)])
