"""Classifier-free guidance: laws that are laws, at the speed of the conditional model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.meaning import Score
from sepo.diffusion.process import Absorbing
from sepo.evaluation.exact import first_hitting_law, optimum, total_variation
from sepo.evaluation.worlds import Law, ideal_uniform, markov_chain, probabilities, random_table, tabular
from sepo.ops import Chance
from sepo.samplers import (
    Ancestral,
    Confidence,
    FirstHitting,
    ReMDM,
    TauLeaping,
    roll,
)
from sepo.samplers.guided import ClassifierFree, classifier_free
from tests.samplers.tilted import (
    BETA,
    DATA,
    INNER,
    LINEAR,
    MASK,
    REWARD,
)
from tests.worlds import SMALL, at_step, deviations

PROMPTED = Canvas(torch.tensor([[0, 2, 0]]), torch.tensor([[True, False, True]]))


@torch.no_grad()
@pytest.mark.parametrize("weight", [-1.0, 0.0, 1.5, 10.0])
def test_guided_laws_are_the_renormalised_products(weight: float) -> None:
    policy = random_table(SMALL, seed=2)
    state, t = torch.tensor([[3, 2, 3]]), torch.ones(1)
    with_it = policy.log_posterior(state, t).exp()[0, [0, 2], :3]
    without = policy.log_posterior(torch.full((1, 3), 3), t).exp()[0, [0, 2], :3]
    goal = with_it ** (1 + weight) * without**-weight
    guided = classifier_free(policy, weight, canvas=PROMPTED)
    found = guided.log_posterior(state, t)[0].exp()
    torch.testing.assert_close(found[[0, 2], :3], goal / goal.sum(-1, keepdim=True), rtol=1e-5, atol=1e-7)
    assert found[1].tolist() == [0, 0, 1, 0]
    other = classifier_free(policy, weight, policy.on(random_table(SMALL, seed=5).network))
    without = random_table(SMALL, seed=5).log_posterior(state, t).exp()[0, [0, 2], :3]
    goal = with_it ** (1 + weight) * without**-weight
    found = other.log_posterior(state, t)[0, [0, 2], :3].exp()
    torch.testing.assert_close(found, goal / goal.sum(-1, keepdim=True), rtol=1e-5, atol=1e-7)


@torch.no_grad()
@pytest.mark.parametrize("scored", [False, True])
def test_masks_are_filled_as_fast_at_any_weight_and_weight_zero_is_the_condition(scored: bool) -> None:
    policy = random_table(SMALL, seed=2)
    if scored:  # and not normalised
        policy = replace(policy, meaning=Score(scale_by_sigma=False))
        policy.network.logits -= 1.0
    state = torch.tensor([[3, 2, 3], [3, 2, 0]])
    for inner in (Ancestral(5), TauLeaping(5)):
        plain = inner.kernel(policy, state, at_step(1, state))
        for weight in (-0.5, 0.0, 3.0):
            found = inner.kernel(classifier_free(policy, weight, canvas=PROMPTED), state, at_step(1, state))
            torch.testing.assert_close(found[..., MASK], plain[..., MASK], rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(found.sum(-1), torch.ones(2, 3).to(found), rtol=1e-5, atol=1e-6)
            if weight == 0:
                torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-7)
    canvas = PROMPTED.repeat(200)
    for inner in (FirstHitting(), Confidence(), Ancestral(4), TauLeaping(4)):
        paths = [roll(each, policy, canvas, Chance.of(0, 200)) for each in (inner, ClassifierFree(inner, 0.0))]
        assert torch.equal(paths[0].x0, paths[1].x0)


def test_guided_draws_follow_the_law_of_their_kernel() -> None:
    policy, canvas = random_table(SMALL, seed=2), PROMPTED.repeat(5000)
    guided = classifier_free(policy, 1.0, canvas=PROMPTED)
    law = first_hitting_law(guided, SMALL, start=torch.tensor([3, 2, 3])).detach()
    before = policy.meter.evaluations
    path = roll(ClassifierFree(FirstHitting(), 1.0), policy, canvas, Chance.of(0, 5000))
    assert abs(deviations(SMALL, path.x0, law)) < 4
    assert policy.meter.evaluations - before == 5000 * 2 * 2
    plain = first_hitting_law(policy, SMALL, start=torch.tensor([3, 2, 3])).detach()
    assert deviations(SMALL, path.x0, plain) > 10


def test_prompts_of_different_places_are_masked_row_by_row() -> None:
    policy = random_table(SMALL, seed=2)
    tokens, free = torch.tensor([[0, 2, 0], [1, 0, 1]]), torch.tensor([[True, False, True], [False, True, False]])
    canvas = Canvas(tokens, free).repeat(2000)
    for inner in (Ancestral(3), TauLeaping(3), ReMDM(3)):
        together = roll(ClassifierFree(inner, 2.0), policy, canvas, Chance.seeded(0, [0, 1], 2000)).x0
        alone = roll(ClassifierFree(inner, 2.0), policy, canvas[2000:], Chance.seeded(0, [1], 2000)).x0
        shares = together[2000:, 1].bincount(minlength=3) / 2000
        torch.testing.assert_close(shares, alone[:, 1].bincount(minlength=3) / 2000, rtol=0, atol=0.06)
        assert torch.equal(together[~canvas.free], canvas.tokens[~canvas.free])
    with pytest.raises(ValueError, match=r"rows give different sites.*TauLeaping"):
        roll(ClassifierFree(FirstHitting(), 2.0), policy, canvas, Chance.of(0, 4000))
    uniform = ideal_uniform(SMALL, DATA)
    with pytest.raises(ValueError, match=r"Uniform has no mask.*unconditional"):
        roll(ClassifierFree(INNER, 2.0), uniform, PROMPTED, Chance.of(0, 1))
    other = ideal_uniform(SMALL, markov_chain(SMALL, seed=2))
    assert roll(ClassifierFree(INNER, 2.0, other), uniform, PROMPTED, Chance.of(0, 1)).x0[0, 1] == 2
    with pytest.raises(ValueError, match="nothing to be guided by"):
        roll(ClassifierFree(INNER, 2.0), policy, Canvas.blank(2, 3), Chance.of(0, 2))


def independent_sites() -> Law:
    """A data law without any dependence between sites."""
    sites = torch.randn(3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.double).softmax(1)
    return sites[torch.arange(3), SMALL.sequences].prod(1)


@torch.no_grad()
@pytest.mark.parametrize("weight", [-0.5, 1.0, 3.0])
def test_away_from_the_reference_of_its_fine_tuning_an_optimum_is_that_of_another_price(weight: float) -> None:
    reference, price = independent_sites(), BETA / (1 + weight)
    tuned = tabular(SMALL, optimum(reference, LINEAR, BETA))
    goal = optimum(reference, LINEAR, price)
    found = first_hitting_law(classifier_free(tuned, weight, tabular(SMALL, reference)), SMALL)
    torch.testing.assert_close(found, goal, rtol=1e-5, atol=1e-8)
    assert float(total_variation(first_hitting_law(tuned, SMALL), goal)) > 0.1


@torch.no_grad()
@pytest.mark.parametrize("weight", [-0.5, 1.0])
def test_with_sites_that_depend_on_each_other_only_the_last_mask_is_filled_by_that_law(weight: float) -> None:
    goal = optimum(DATA, REWARD, BETA / (1 + weight))
    guided = classifier_free(tabular(SMALL, optimum(DATA, REWARD, BETA)), weight, tabular(SMALL, DATA))
    masked = SMALL.states == MASK
    last = masked.sum(1) == 1
    found, ideal = (probabilities(each, SMALL.states[last])[masked[last]] for each in (guided, tabular(SMALL, goal)))
    torch.testing.assert_close(found, ideal, rtol=1e-5, atol=1e-8)
    assert float(total_variation(first_hitting_law(guided, SMALL), goal)) > 0.01


def test_models_of_other_tokens_or_noise_are_no_conditions() -> None:
    policy = random_table(SMALL, seed=2)
    wider = replace(policy, process=Absorbing(5, 4))
    with pytest.raises(ValueError, match=r"unconditional knows 5 ids and the policy 4: name a model"):
        classifier_free(policy, 1.0, wider)
