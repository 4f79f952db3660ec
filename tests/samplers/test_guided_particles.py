"""SMC and TDS: they converge to p exp(r / beta) / Z, and what their weights and their resampling are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.exact import optimum, total_variation
from sepo.evaluation.values import state_values
from sepo.evaluation.worlds import Law, tabular
from sepo.ops import Chance, draw
from sepo.samplers import (
    Ancestral,
    roll,
)
from sepo.samplers.guided import (
    SMC,
    TDS,
    ArgmaxFill,
    Learned,
    SampledFill,
    Value,
)
from sepo.samplers.guided.population import Population, effective, log_mean, systematic
from sepo.samplers.guided.tilting import Tilt
from tests.samplers.tilted import (
    BETA,
    DATA,
    INNER,
    MASK,
    PAIRS,
    REWARD,
    STEPS,
    by_table,
    distance,
    each_process,
    exact_value,
    law_of,
    linear,
    pairs,
    policies,
    shares_of,
    softly,
    uniform_transformer,
)
from tests.worlds import SMALL, at_step, deviations


@each_process
@pytest.mark.parametrize("kind", ["argmax", "sampled", "exact"])
def test_smc_goes_from_the_inner_sampler_to_the_tilted_law_as_particles_grow(process: str, kind: str) -> None:
    policy, reward = policies()[process], by_table(REWARD)
    value: Value = {
        "argmax": ArgmaxFill(reward),
        "sampled": SampledFill(reward, BETA, 2),
        "exact": exact_value(INNER, policy, REWARD, BETA),
    }[kind]
    inner = law_of(INNER, policy)
    alone = roll(SMC(INNER, reward, BETA, 1, value), policy, Canvas.blank(4000, 3), Chance.of(0, 4000)).x0
    assert abs(deviations(SMALL, alone, inner)) < 4
    goal = optimum(inner, REWARD, BETA)
    errors = [distance(SMC(INNER, reward, BETA, n, value), policy, goal, 4096 * k) for n, k in ((4, 1), (64, 2))]
    floor = distance(Drawn(goal), policy, goal, 8192)
    print(f"SMC, {kind}, {process}: {float(total_variation(inner, goal)):.3f} {errors} floor {floor:.3f}")
    assert float(total_variation(inner, goal)) > 1.5 * errors[0] > 2 * errors[1]
    assert errors[1] < (0.05 if kind == "exact" else 0.16)  # groups of 64 are 128 populations: more than the floor


@dataclass(frozen=True)
class Drawn:
    """Independent draws from a law: the Monte-Carlo floor."""

    law: Law
    revisits = False
    exact_density = True

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance):
        for move in Ancestral(1)(policy, canvas, chance):
            yield replace(move, x=SMALL.sequences[draw(self.law.expand(len(canvas), -1), chance.uniform(1)[:, 0])])


@dataclass(frozen=True)
class SiteBySite:
    """Left to right as a kernel: step j draws site j alone."""

    steps: int = 3
    revisits = False
    exact_density = True

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance):
        raise NotImplementedError

    def kernel(self, policy: Denoiser, xt: Tensor, step: Tensor, attend: Tensor | None = None) -> Tensor:
        law = policy.log_posterior(xt, torch.ones(len(xt)), attend).exp()
        here = torch.arange(xt.shape[1]) == step.unsqueeze(1)
        return torch.where(here.unsqueeze(-1), law, nn.functional.one_hot(xt, law.shape[-1]).to(law.dtype))


def test_with_the_exact_twist_in_the_proposal_a_particle_alone_is_exact() -> None:
    """Weights do not vary at all: any reward, dependent sites, one sample per particle."""
    policy = tabular(SMALL, DATA)
    values = state_values(policy, SMALL, (REWARD / BETA).exp())

    def twisted(xt: Tensor, step: Tensor, law: Tensor) -> Tensor:
        after = law.clone()
        for row in range(len(xt)):
            site = int(step[row])
            for token in range(3):
                then = xt[row : row + 1].clone()
                then[0, site] = token
                after[row, site, token] *= values[SMALL.state_index(then)[0]]
        return after / after.sum(-1, keepdim=True)

    value = Learned(lambda x, step: BETA * values[SMALL.state_index(x)].log())
    proposals = {
        int(step): twisted(
            SMALL.states,
            at_step(step, SMALL.states),
            SiteBySite().kernel(policy, SMALL.states, at_step(step, SMALL.states)).detach(),
        )
        for step in range(3)
    }
    sampler = SMC(
        SiteBySite(),
        by_table(REWARD),
        BETA,
        1,
        value,
        lambda xt, step, law: proposals[int(step[0])][SMALL.state_index(xt)],
    )
    population = sampler.population(policy, Canvas.blank(6000, 3), Chance.of(0, 6000))
    z = float((DATA * (REWARD / BETA).exp()).sum())
    torch.testing.assert_close(population.log_normaliser.exp(), torch.full((6000,), z).double(), rtol=1e-5, atol=0)
    assert abs(deviations(SMALL, population.states[:, -1], optimum(DATA, REWARD, BETA))) < 4
    bare = replace(sampler, proposal=None).population(policy, Canvas.blank(600, 3), Chance.of(0, 600))
    assert bare.log_normaliser.std() > 0.1


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["smc", "tds", "uniform"])
def test_the_mean_weight_estimates_the_normaliser_without_bias(name: str, threshold: float) -> None:
    """And populations of four, pooled by it, the tilted law."""
    policy, n = softly(), 4
    sampler: SMC | TDS = TDS(INNER, pairs, BETA, n, threshold=threshold)
    if name != "tds":
        policy = policies()["uniform"] if name == "uniform" else policy
        sampler = SMC(INNER, by_table(PAIRS), BETA, n, threshold=threshold)
    population = sampler.population(policy, Canvas.blank(8000, 3), Chance.of(1, 8000))
    found, inner = population.log_normaliser[::n].exp(), law_of(INNER, policy)
    z = float((inner * (PAIRS / BETA).exp()).sum())
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean()) - z) < 4 * error < 0.2 * z
    pooled = population.log_weight - log_mean(population.log_weight, n) + population.log_normaliser
    law = torch.zeros_like(inner).index_add(0, SMALL.index(population.states[:, -1]), pooled.softmax(0))
    goal = optimum(inner, PAIRS, BETA)
    assert float(total_variation(law, goal)) < 0.1 < float(total_variation(inner, goal)) / 3


def test_without_resampling_weights_are_those_of_importance_sampling() -> None:
    policy = policies()["absorbing"]
    population = SMC(INNER, by_table(REWARD), BETA, 8, threshold=0.0).population(
        policy, Canvas.blank(64, 3), Chance.of(0, 64)
    )
    torch.testing.assert_close(population.log_weight, by_table(REWARD)(population.states[:, -1]) / BETA)
    assert torch.equal(population.parents, torch.arange(64).unsqueeze(1).expand(-1, STEPS))
    torch.testing.assert_close(population.log_normaliser, log_mean(population.log_weight, 8))


def test_particles_are_drawn_anew_only_below_the_threshold_and_only_inside_their_group() -> None:
    policy, n = policies()["absorbing"], 8
    population = SMC(INNER, by_table(REWARD), BETA, n).population(policy, Canvas.blank(800, 3), Chance.of(0, 800))
    group = torch.arange(800) // n
    assert torch.equal(population.parents // n, group.unsqueeze(1).expand(-1, STEPS))
    for step in range(STEPS):
        parents, ess = population.parents[:, step], population.ess[:, step]
        copies = parents.bincount(minlength=800)
        renewed = (copies != 1).view(-1, n).any(1)
        assert (ess.view(-1, n)[:, 0][renewed] < n / 2).all()
        assert (copies <= torch.ceil(n / ess.sqrt())).all()  # no share of the weight exceeds 1 / sqrt(ess)
    assert (population.parents != torch.arange(800).unsqueeze(1)).any()
    even = SMC(INNER, lambda x: torch.ones(len(x)), BETA, n)
    path = roll(even, policy, Canvas.blank(80, 3), Chance.of(0, 80))
    assert torch.equal(path.x0, even.population(policy, Canvas.blank(80, 3), Chance.of(0, 80)).states[:, -1])


def test_systematic_draws_leave_the_floor_or_the_ceiling_of_their_share() -> None:
    weight = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    share = 8 * weight.view(-1, 8).softmax(-1).flatten()
    copies = torch.stack(
        [systematic(weight, Chance.of(seed, 4000).uniform(1), 8).bincount(minlength=4000) for seed in range(200)]
    ).double()
    assert (copies >= share.floor()).all() and (copies <= share.ceil()).all()
    assert ((copies.mean(0) - share).abs() < 5 * 0.5 / 200**0.5).all()
    alone = torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]).double()
    assert effective(alone, 4)[0].item() == pytest.approx(2)


def test_prompts_do_not_compete() -> None:
    """The reward prefers the second prompt by far; each keeps its rows, and its own tilted law."""
    policy, n = tabular(SMALL, DATA), 32
    tokens = torch.tensor([[0, 1, 0], [0, 2, 0]])
    canvas = Canvas(tokens, torch.tensor([True, False, True]).expand(2, -1)).repeat(n)
    canvas = canvas[torch.arange(64).repeat(40)]
    table = REWARD + 20.0 * (SMALL.sequences[:, 1] == 2)
    inner = Ancestral(20)
    drawn = roll(SMC(inner, by_table(table), BETA, n), policy, canvas, Chance.of(0, len(canvas))).x0
    assert torch.equal(drawn[:, 1], canvas.tokens[:, 1])
    for token in (1, 2):
        law = torch.where(SMALL.sequences[:, 1] == token, DATA, 0.0)
        goal = optimum(law / law.sum(), REWARD, BETA)
        assert float(total_variation(shares_of(drawn[drawn[:, 1] == token]), goal)) < 0.12


class Unnormalised(Tilt):
    """As the released TDS: weights hold exp(-guidance) of what was drawn instead of p / q."""

    def _tilted(self, policy: Denoiser, law: Tensor, xt: Tensor, slope: Tensor) -> Tensor:
        shift = self.gamma * (slope - slope.gather(-1, xt.unsqueeze(-1)))
        return law * shift.masked_fill((xt != MASK).unsqueeze(-1), 0.0).exp()


@pytest.mark.parametrize("through_network", [True, False])
def test_tds_converges_and_does_not_without_its_normalisers(
    through_network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = softly()
    goal = optimum(law_of(INNER, policy), PAIRS, BETA)
    samplers = [TDS(INNER, pairs, BETA, n, through_network=through_network) for n in (1, 64)]
    errors = [distance(sampler, policy, goal, 6400) for sampler in samplers]
    monkeypatch.setattr("sepo.samplers.guided.tds.Tilt", Unnormalised)
    released = distance(samplers[-1], policy, goal, 6400)
    print(f"TDS, through_network={through_network}: {errors}; without normalisers {released:.3f}")
    assert errors[0] > 1.5 * errors[1] and errors[1] < 0.05
    assert released > 2 * errors[1]


def test_tds_converges_with_the_uniform_process() -> None:
    policy = uniform_transformer()
    goal = optimum(law_of(INNER, policy), PAIRS, BETA)
    errors = [distance(TDS(INNER, pairs, BETA, n), policy, goal, 6400) for n in (1, 64)]
    assert errors[0] > 1.5 * errors[1] and errors[1] < 0.06


@pytest.mark.parametrize("name", ["smc", "tds"])
def test_populations_are_told_of_as_they_are_drawn(name: str) -> None:
    heard: list[Population] = []
    policy, canvas = softly(), Canvas.blank(12, 3)
    made: Any = {
        "smc": SMC(INNER, by_table(REWARD), 0.3, 4, told=heard.append),
        "tds": TDS(INNER, linear, 0.3, 4, told=heard.append),
    }[name]
    roll(made, policy, canvas, Chance.of(0, 12))
    (told,) = heard
    again = made.population(policy, canvas, Chance.of(0, 12))
    assert torch.equal(told.ess, again.ess) and told.ess.shape == (12, STEPS) and float(told.ess.min()) < 4
