"""What all guided samplers must do: keep what is given, count their costs, tell each path, refuse nonsense."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.exact import optimum
from sepo.ops import Chance
from sepo.samplers import (
    Blocks,
    FirstHitting,
    PredictorCorrector,
    ReMDM,
    Sampler,
    TauLeaping,
    require_density,
    roll,
    transitions_log_prob,
)
from sepo.samplers.guided import (
    SMC,
    SVDD,
    TDS,
    BestOfN,
    ClassifierFree,
    ClassifierGuidance,
    Counted,
    Learned,
    SampledFill,
)
from tests.samplers.tilted import (
    BETA,
    INNER,
    PAIRS,
    REWARD,
    by_table,
    distance,
    exact_value,
    law_of,
    pairs,
    policies,
    softly,
    uniform_transformer,
)


def every(process: str) -> dict[str, tuple[Sampler, int]]:
    """By name, with the evaluations per row."""
    reward = Counted(by_table(PAIRS))
    learned = Learned(lambda x, step: step.double())
    found: dict[str, tuple[Sampler, int]] = {
        "smc": (SMC(INNER, reward, BETA, 4), 3),
        "smc sampled": (SMC(INNER, reward, BETA, 4, SampledFill(reward, BETA, 2)), 3),
        "smc learned": (SMC(INNER, reward, BETA, 4, learned), 3),
        "tds": (TDS(INNER, Counted(pairs), BETA, 4), 3),
        "guidance": (ClassifierGuidance(INNER, 1.0, Counted(pairs)), 3),
        "svdd": (SVDD(INNER, reward, 5, BETA), 1 + 2 * 5),
        "svdd learned": (SVDD(INNER, reward, 5, 0.0, learned), 3),
        "best of n": (BestOfN(TauLeaping(3), reward, 5), 3 * 5),
        "smc in leaps": (SMC(TauLeaping(3), reward, BETA, 4), 3),
    }
    if process == "absorbing":
        found["smc with remasking"] = SMC(ReMDM(3, 0.5), reward, BETA, 4), 3
    return found


CALLS = {  # of the reward, per row
    "smc": 3,
    "smc sampled": 2 * 2 + 1,
    "smc learned": 1,
    "tds": 4,
    "guidance": 3,
    "svdd": 3 * 5,
    "svdd learned": 5,
    "best of n": 5,
    "smc in leaps": 3,
    "smc with remasking": 3,
}
NAMES = [("absorbing", name) for name in every("absorbing")] + [("uniform", name) for name in every("uniform")]
all_of_them = pytest.mark.parametrize(("process", "name"), NAMES)


def network(process: str) -> Denoiser:
    return softly() if process == "absorbing" else uniform_transformer()


@all_of_them
def test_given_tokens_stay_costs_are_counted_and_trainers_refuse(process: str, name: str) -> None:
    (sampler, evaluations), policy = every(process)[name], network(process)
    tokens = torch.tensor([[1, 0, 2], [0, 2, 0], [0, 0, 0]])
    free = torch.tensor([[False, True, False], [True, False, True], [True, True, True]])
    canvas = Canvas(tokens, free).repeat(8)
    path = roll(sampler, policy, canvas, Chance.of(0, 24))
    assert torch.equal(path.x0[~canvas.free], canvas.tokens[~canvas.free]) and (path.x0 < 3).all()
    assert policy.meter.evaluations == 24 * evaluations
    assert (policy.meter.with_gradient > 0) == (name in ("tds", "guidance"))
    reward = sampler.reward  # type: ignore[attr-defined]
    assert isinstance(reward, Counted) and reward.calls == 24 * CALLS[name]
    assert isinstance(sampler, Sampler) and not sampler.exact_density
    with pytest.raises(ValueError, match="use this one for evaluation only"):
        require_density(sampler)


@all_of_them
def test_groups_do_not_depend_on_the_batch_they_travel_in(process: str, name: str) -> None:
    (sampler, _), policy = every(process)[name], network(process)
    tokens = torch.tensor([[1, 0, 2], [0, 2, 0], [0, 0, 0]])
    free = torch.tensor([[False, True, False], [True, False, True], [True, True, True]])
    canvas = Canvas(tokens, free).repeat(8)
    together = roll(sampler, policy, canvas, Chance.seeded(0, [7, 8, 9], 8))
    for place, group in enumerate((7, 8, 9)):
        part = slice(8 * place, 8 * place + 8)
        alone = roll(sampler, policy, canvas[part], Chance.seeded(0, [group], 8))
        assert torch.equal(alone.x0, together.x0[part])


@all_of_them
def test_each_sample_has_a_path_of_its_own_rated_by_the_inner_sampler(process: str, name: str) -> None:
    """Also after particles were drawn anew: its states are those of its ancestors."""
    (sampler, _), policy = every(process)[name], network(process)
    if name == "guidance":
        return
    path = roll(sampler, policy, Canvas.blank(40, 3), Chance.of(0, 40))
    if isinstance(path, MaskedPath):
        torch.testing.assert_close(path.log_prob, path_log_prob(policy, path).detach(), rtol=1e-4, atol=1e-5)
        assert ((path.order >= 0) & (path.order < 3)).all()
        assert path.times[0].tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    else:
        inner = sampler.inner  # type: ignore[attr-defined]
        torch.testing.assert_close(
            transitions_log_prob(inner, policy, path).detach(), path.log_prob, rtol=1e-4, atol=1e-5
        )


def test_inner_samplers_that_revisit_sites_reach_the_tilted_law_too() -> None:
    policy = policies()["absorbing"]
    for inner in (ReMDM(4, 0.5), PredictorCorrector(2, 1, 0.2)):
        goal = optimum(law_of(inner, policy), REWARD, BETA)
        value = exact_value(inner, policy, REWARD, BETA)
        assert distance(SMC(inner, by_table(REWARD), BETA, 64, value), policy, goal, 8192) < 0.06


def test_options_that_make_no_sense_are_refused() -> None:
    reward = by_table(REWARD)
    for options in ({"beta": 0.0}, {"particles": 0}, {"threshold": 1.5}):
        with pytest.raises(ValueError, match=r"needs beta above 0, at least 1 particle"):
            SMC(**({"inner": INNER, "reward": reward, "beta": 1.0, "particles": 2} | options))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1 candidate"):
        SVDD(INNER, reward, 0)
    with pytest.raises(ValueError, match=r"BestOfN\(n=0\)"):
        BestOfN(INNER, reward, 0)
    with pytest.raises(ValueError, match="draws=0"):
        SampledFill(reward, 1.0, 0)
    with pytest.raises(ValueError, match="weight=inf"):
        ClassifierFree(INNER, math.inf)
    with pytest.raises(ValueError, match="gamma=nan"):
        ClassifierGuidance(INNER, math.nan, pairs)
    with pytest.raises((ValueError, TypeError)):  # the shape checks of the tests come first
        SMC(FirstHitting(), reward, 1.0, 2)  # type: ignore[arg-type]


def test_what_it_cannot_do_is_named() -> None:
    policy, reward = policies()["absorbing"], by_table(REWARD)
    smc = SMC(INNER, reward, BETA, 2)
    with pytest.raises(ValueError, match=r"3 rows are no groups of 2.*canvas.repeat"):
        roll(smc, policy, Canvas.blank(3, 3), Chance.of(0, 3))
    mixed = Canvas(torch.tensor([[0, 1, 0], [0, 2, 0]]), torch.tensor([[True, False, True]]).expand(2, -1))
    with pytest.raises(ValueError, match=r"Rows 0 to 1 .*differ in what is given"):
        roll(smc, policy, mixed, Chance.of(0, 2))
    blank, chance = Canvas.blank(2, 3), Chance.of(0, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 2 sequences"):
        roll(replace(smc, reward=lambda x: x.double()), policy, blank, chance)
    with pytest.raises(ValueError, match=r"not finite for 2 of 2.*a low one"):
        roll(replace(smc, reward=lambda x: torch.full((len(x),), -torch.inf)), policy, blank, chance)
    with pytest.raises(ValueError, match=r"has no gradient"):
        roll(TDS(INNER, lambda x: x.detach().sum((1, 2)), BETA, 2, through_network=False), policy, blank, chance)
    with pytest.raises(ValueError, match=r"Guidance of Uniform.*SMC or SVDD"):
        roll(TDS(INNER, pairs, BETA, 2, through_network=False), policies()["uniform"], blank, chance)
    with pytest.raises(ValueError, match=r"does not read every site once"):
        roll(SMC(Blocks(INNER, 1, 3), reward, BETA, 2), softly(), blank, chance)
    with torch.no_grad():
        next(policy.network.parameters()).fill_(torch.nan)
    for sampler in (smc, SVDD(INNER, reward, 2), TDS(INNER, pairs, BETA, 2, through_network=False)):
        with pytest.raises(ValueError, match=r"no finite probabilities in 2 of 2 sequences"):
            roll(sampler, policy, blank, chance)
