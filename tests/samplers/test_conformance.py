"""What every sampler of the table must do; a new row declares here what holds for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath, StatePath
from sepo.evaluation.exact import first_hitting_law, kernel_law, total_variation
from sepo.evaluation.objectives import left_to_right_law
from sepo.evaluation.worlds import Law, World, ideal_uniform, markov_chain, tabular
from sepo.ops import Chance
from sepo.samplers import (
    DPLM,
    SAMPLERS,
    Ancestral,
    Confidence,
    FirstHitting,
    Gibbs,
    LeftToRight,
    PredictorCorrector,
    ReMDM,
    Sampler,
    TauLeaping,
    roll,
)
from tests.samplers.enumerated import confidence_law
from tests.worlds import SMALL, denoisers, deviations

DATA = markov_chain(SMALL, seed=1)


@dataclass(frozen=True)
class Claim:
    """make: the sampler with this many steps; law: enumerated, None: unknown; order: its error is O(steps^-order), none
    if 0; caches: rows in which nothing appears are not evaluated; regular: that order is seen from 32 steps on; trains:
    its draws have the density that it records."""

    make: Callable[[int], Sampler]
    law: Callable[[int, Denoiser, World], Law] | None
    order: int = 0
    processes: tuple[str, ...] = ("absorbing", "uniform")
    caches: bool = True
    regular: bool = True
    trains: bool = True


CLAIMS = {
    "first_hitting": Claim(
        lambda steps: FirstHitting(),
        lambda steps, policy, world: first_hitting_law(policy, world),
        order=0,
        processes=("absorbing",),
    ),
    "left_to_right": Claim(
        lambda steps: LeftToRight(),
        lambda steps, policy, world: left_to_right_law(policy, world),
        order=0,
        processes=("absorbing",),
    ),
    "ancestral": Claim(Ancestral, lambda steps, policy, world: kernel_law(Ancestral(steps), policy, world), order=1),
    "tau_leaping": Claim(
        TauLeaping,
        lambda steps, policy, world: kernel_law(TauLeaping(steps), policy, world),
        order=1,
        caches=False,
    ),
    "predictor_corrector": Claim(
        lambda steps: PredictorCorrector(steps, 1, 0.1, from_time=0.5),
        lambda steps, policy, world: kernel_law(PredictorCorrector(steps, 1, 0.1, from_time=0.5), policy, world),
        order=1,
        caches=False,
        regular=False,
    ),
    "remdm": Claim(
        lambda steps: ReMDM(steps, 0.1),
        lambda steps, policy, world: kernel_law(ReMDM(steps, 0.1), policy, world),
        order=1,
        processes=("absorbing",),
        caches=False,
        regular=False,
    ),
    "gibbs": Claim(
        lambda steps: Gibbs(sweeps=1.0),
        lambda steps, policy, world: first_hitting_law(policy, world),
        order=0,
        processes=("absorbing",),
        caches=False,
    ),
    "confidence": Claim(
        lambda steps: Confidence(),
        lambda steps, policy, world: confidence_law(policy, world),
        order=0,
        processes=("absorbing",),
    ),
    "dplm": Claim(DPLM, None, processes=("absorbing",), caches=False, trains=False),
}

ROWS = [(name, process) for name, claim in CLAIMS.items() for process in claim.processes]
every = pytest.mark.parametrize(("name", "process"), ROWS)
known = pytest.mark.parametrize(("name", "process"), [row for row in ROWS if CLAIMS[row[0]].law is not None])
absorbing = pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.law is not None])
filling = pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if not claim.make(3).revisits])


def ideal(process: str, world: World = SMALL, law: Law = DATA) -> Denoiser:
    return tabular(world, law) if process == "absorbing" else ideal_uniform(world, law)


class Recorder(nn.Module):
    """Flat logits; remembers what it was asked."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(size))
        self.dropout = nn.Dropout()
        self.asked: list[tuple[Tensor, Tensor, Tensor | None]] = []

    @staticmethod
    def call(network: nn.Module, xt: Tensor, sigma: Tensor, attend: Tensor | None, sites: Tensor | None) -> Tensor:
        assert isinstance(network, Recorder) and not network.training
        network.asked.append((xt, sigma, attend))
        return network.logits.expand(len(xt), xt.shape[1] if sites is None else sites.shape[1], -1)


def test_every_sampler_of_the_table_states_its_claims() -> None:
    assert set(CLAIMS) == set(SAMPLERS)
    for name, claim in CLAIMS.items():
        sampler = claim.make(3)
        assert isinstance(sampler, SAMPLERS[name]) and isinstance(sampler, Sampler)
        assert sampler.exact_density == claim.trains


@known
def test_draws_follow_the_exact_law(name: str, process: str) -> None:
    """The law is enumerated; 8,000 draws lie within four standard deviations of chi-square."""
    claim, policy = CLAIMS[name], ideal(process)
    assert claim.law is not None
    rollout = roll(claim.make(3), policy, Canvas.blank(8000, 3), Chance.of(5, 8000))
    law = claim.law(3, policy, SMALL)
    assert law.sum().item() == pytest.approx(1, abs=1e-6)
    assert abs(deviations(SMALL, rollout.x0, law)) < 4
    if claim.order:  # the test can tell it from the data's law
        assert deviations(SMALL, rollout.x0, DATA) > 10


@known
def test_the_error_of_the_ideal_denoiser_halves_when_the_steps_double(name: str, process: str) -> None:
    claim, policy = CLAIMS[name], ideal(process)
    assert claim.law is not None
    with torch.no_grad():
        errors = [float(total_variation(claim.law(steps, policy, SMALL), DATA)) for steps in (32, 64, 128)]
    if claim.order == 0:
        assert max(errors) < 1e-12
    else:
        for coarse, fine in pairwise(errors):
            assert coarse / fine == pytest.approx(2**claim.order, rel=0.06 if claim.regular else 0.3)
        assert errors[-1] < 0.01


@every
def test_given_tokens_are_kept_and_the_rest_is_filled(name: str, process: str) -> None:
    policy = ideal(process)
    tokens = torch.tensor([[1, 0, 2], [0, 2, 0], [2, 2, 0]]).repeat(20, 1)
    free = torch.tensor([[False, True, False], [True, False, True], [False, False, True]]).repeat(20, 1)
    rollout = roll(CLAIMS[name].make(4), policy, Canvas(tokens, free), Chance.of(0, 60))
    assert torch.equal(rollout.x0[~free], tokens[~free])
    assert (rollout.x0 < 3).all() and len(rollout.x0[free].unique()) == 3
    if isinstance(rollout, StatePath):
        assert (rollout.states == rollout.states[:, -1:])[~free.unsqueeze(1).expand_as(rollout.states)].all()


@absorbing
def test_draws_given_some_tokens_follow_the_conditional_law(name: str) -> None:
    """Site 1 is given. Many steps for the samplers with a grid, so that only the sampling error is left.

    Not claimed for the uniform process: its denoiser was not trained on sites that are clean from the start.
    """
    policy = ideal("absorbing")
    canvas = Canvas(torch.tensor([[0, 2, 0]]), torch.tensor([[True, False, True]])).repeat(3000)
    rollout = roll(CLAIMS[name].make(100), policy, canvas, Chance.of(2, 3000))
    agreeing = SMALL.sequences[:, 1] == 2
    law = torch.where(agreeing, DATA, 0.0) / DATA[agreeing].sum()
    assert abs(deviations(SMALL, rollout.x0, law)) < 4


@every
def test_a_rows_draws_do_not_depend_on_the_batch_it_travels_in(name: str, process: str) -> None:
    """Groups with different numbers of free sites, together and alone, in another order."""
    policy, sampler = ideal(process), CLAIMS[name].make(4)
    tokens = torch.tensor([[1, 0, 2], [0, 2, 0], [0, 0, 0]])
    free = torch.tensor([[False, True, False], [True, False, True], [True, True, True]])
    canvas = Canvas(tokens, free).repeat(5)
    together = roll(sampler, policy, canvas, Chance.seeded(0, [7, 8, 9], 5))
    for place, group in enumerate((7, 8, 9)):
        part = slice(5 * place, 5 * place + 5)
        alone = roll(sampler, policy, canvas[part], Chance.seeded(0, [group], 5))
        assert torch.equal(alone.x0, together.x0[part])
        if isinstance(alone, MaskedPath) and isinstance(together, MaskedPath):
            assert torch.equal(alone.order, together.order[part])
            assert torch.equal(alone.log_prob, together.log_prob[part])
            assert torch.equal(alone.times, together.times[part, : alone.steps])
        if isinstance(alone, StatePath) and isinstance(together, StatePath):
            torch.testing.assert_close(alone.log_prob.sum(1), together.log_prob[part].sum(1))


@filling
@pytest.mark.parametrize("kind", ["ideal", "noisy", "arbitrary"])
def test_log_prob_of_a_rollout_is_that_of_its_path_read_again(name: str, kind: str) -> None:
    policy = denoisers(SMALL)[kind]
    path = roll(CLAIMS[name].make(4), policy, Canvas.blank(50, 3), Chance.of(3, 50))
    assert isinstance(path, MaskedPath)
    torch.testing.assert_close(path.log_prob, path_log_prob(policy, path).detach(), rtol=1e-5, atol=1e-6)
    assert (path.log_prob < 0).all()


@filling
def test_order_and_times_say_when_each_site_was_read(name: str) -> None:
    policy = Denoiser(Recorder(4), SMALL.absorbing(), Recorder.call)
    path = roll(CLAIMS[name].make(6), policy, Canvas.blank(40, 3), Chance.of(0, 40))
    assert isinstance(path, MaskedPath) and isinstance(policy.network, Recorder)
    assert (path.order >= 0).all() and (path.order < path.steps).all()
    assert (path.times.diff(dim=1) < 0).all() and (path.times > 0).all() and (path.times <= 1).all()
    read = {
        (tuple(xt.tolist()), sigma.item())
        for asked in policy.network.asked
        for xt, sigma in zip(*asked[:2], strict=True)
    }
    steps = torch.arange(path.steps).expand(40, -1)
    sigma = policy.process.schedule.sigma(path.times)
    for row, step in path.active().nonzero().tolist():
        state = path.states(steps, mask=3)[row, step]
        assert (tuple(state.tolist()), sigma[row, step].item()) in read


@filling
def test_evaluations_are_counted_and_only_rows_that_change_are_evaluated(name: str) -> None:
    policy = ideal("absorbing")
    free = torch.tensor([[True, True, True], [False, True, False]]).repeat(30, 1)
    path = roll(CLAIMS[name].make(20), policy, Canvas(torch.zeros(60, 3, dtype=torch.long), free), Chance.of(0, 60))
    assert isinstance(path, MaskedPath)
    expected = int(path.active().sum()) if CLAIMS[name].caches else 60 * 20
    assert policy.meter.evaluations == expected and policy.meter.with_gradient == 0
    if name == "first_hitting":
        assert expected == 30 * 3 + 30 * 1


@every
def test_each_rows_padding_is_passed_on_and_the_network_is_not_training(name: str, process: str) -> None:
    """Padding is marked by token 2, which the network never draws. The padded row is done first."""
    network = Recorder(4 if process == "absorbing" else 3)
    with torch.no_grad():
        network.logits[2] = -torch.inf
    policy = Denoiser(network, SMALL.absorbing() if process == "absorbing" else SMALL.uniform(), Recorder.call)
    attend = torch.tensor([[False, True, True], [True, True, True]]).repeat(4, 1)
    roll(CLAIMS[name].make(3), policy, Canvas(torch.full((8, 3), 2), attend, attend), Chance.of(0, 8))
    assert network.asked and network.training
    for xt, _, passed in network.asked:
        assert passed is not None
        if process == "absorbing":
            assert torch.equal(passed, xt != 2)
        else:
            assert torch.equal(passed, attend)


@every
def test_bad_canvases_are_named(name: str, process: str) -> None:
    policy, sampler = ideal(process), CLAIMS[name].make(3)
    nothing = Canvas(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[True] * 3, [False] * 3]))
    with pytest.raises(ValueError, match=r"Row 1 .*no free site"):
        roll(sampler, policy, nothing, Chance.of(0, 2))
    foreign = Canvas(torch.tensor([[7, 0, 0]]), torch.tensor([[False, True, True]]))
    with pytest.raises(ValueError, match=r"tokens 0 to 7.*tokenizer"):
        roll(sampler, policy, foreign, Chance.of(0, 1))
    if process == "absorbing":
        masked = Canvas(torch.tensor([[3, 0, 0]]), torch.tensor([[False, True, True]]))
        with pytest.raises(ValueError, match=r"mask id 3"):
            roll(sampler, policy, masked, Chance.of(0, 1))


@every
def test_a_network_of_nans_is_named_instead_of_sampled(name: str, process: str) -> None:
    policy = ideal(process)
    with torch.no_grad():
        next(policy.network.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"no finite probabilities in 2 of 2 sequences"):
        roll(CLAIMS[name].make(3), policy, Canvas.blank(2, 3), Chance.of(0, 2))
