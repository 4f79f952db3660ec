"""SEPO's neighbours: sampled weights tend to the closed form, and the theorem holds with all of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sepo.evaluation.exact import expected_reward, first_hitting_law
from sepo.evaluation.worlds import random_reward
from sepo.objectives import SEPO, NextSite, PPOClip
from sepo.objectives.neighbours import NEIGHBOURS, SNIS, LocalSoftmax, Uniform
from sepo.ops import pick
from tests.objectives.test_gradients import Enumerated, exact_gradient, unused
from tests.worlds import SMALL, denoisers

LOGITS = torch.randn(2, 3, 4, 7, dtype=torch.double, generator=torch.Generator().manual_seed(0))
LOGITS[..., 2] = -torch.inf
TOKENS = torch.zeros(2, 3, 4, dtype=torch.long)


def slope(neighbours, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
    logits = LOGITS.clone().requires_grad_()
    log_law = logits.log_softmax(-1)
    value = neighbours.log_score(log_law, pick(log_law, TOKENS), draws)
    return value.detach(), torch.autograd.grad(value.sum(), logits)[0]


def test_the_closed_form_has_the_slope_of_minus_log_p():
    _, found = slope(LocalSoftmax())
    logits = LOGITS.clone().requires_grad_()
    expected = torch.autograd.grad(-pick(logits.log_softmax(-1), TOKENS).sum(), logits)[0]
    torch.testing.assert_close(found, expected)
    assert found.isfinite().all()


def test_snis_over_one_site_tends_to_the_closed_form_as_it_draws_more():
    """Value and slope; the error falls like one over the root of the number of draws."""
    exact, exact_slope = slope(LocalSoftmax())
    errors = []
    for draws in (16, 256, 4096):
        uniform = torch.rand(2, 3, 4, draws, dtype=torch.double, generator=torch.Generator().manual_seed(draws))
        value, found = slope(SNIS(draws), uniform)
        assert (found[..., 2] == 0).all()  # what is impossible is never drawn
        errors.append((float((value - exact).norm()), float((found - exact_slope).nan_to_num(0.0).norm())))
    for (coarse, coarse_slope), (fine, fine_slope) in pairwise(errors):
        assert fine < 0.45 * coarse and fine_slope < 0.45 * coarse_slope
    assert errors[-1][0] < 0.1 and errors[-1][1] < 0.1


def test_uniform_neighbours_weigh_all_that_are_possible_alike():
    value, _ = slope(Uniform())
    law = LOGITS.log_softmax(-1)
    expected = law[..., [0, 1, 3, 4, 5, 6]].mean(-1) - law[..., 0]
    torch.testing.assert_close(value, expected)


def test_theorem_3_1_is_the_policy_gradient_with_all_sequences_as_neighbours_and_not_with_the_nearest():
    """q the law of the sampler and s its exact ratios: grad E[R] = -E R sum_y q(y) grad log s(x)_y over all y."""
    policy, reward = denoisers(SMALL)["arbitrary"], random_reward(SMALL)
    exact = exact_gradient(policy, expected_reward(policy, SMALL, reward))
    law = first_hitting_law(policy, SMALL)
    log_score = law.log().unsqueeze(0) - law.log().unsqueeze(1)
    weight = law.detach().unsqueeze(0)
    near = (SMALL.sequences.unsqueeze(0) != SMALL.sequences.unsqueeze(1)).sum(-1) <= 1
    found = {}
    for name, q in (("all", weight.expand(27, -1)), ("nearest", weight * near)):
        value = -(law.detach() * reward * (q * log_score).sum(1)).sum()
        found[name] = (
            exact_gradient(policy, value)
            if name == "nearest"
            else torch.autograd.grad(value, [*policy.network.parameters()], retain_graph=True)[0]
        )
    torch.testing.assert_close(found["all"], exact, rtol=1e-7, atol=1e-9)
    cosine = float((found["nearest"] * exact).sum() / found["nearest"].norm() / exact.norm())
    assert 0.3 < cosine < 0.99


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_every_kind_has_the_closed_forms_gradient_where_it_is_exact(name: str):
    """Along every path; SNIS and uniform neighbours are biased, by how much is printed in the laboratory."""
    policy, reward = denoisers(SMALL)["noisy"], random_reward(SMALL)
    every = Enumerated.of(policy, SMALL)
    kind = NEIGHBOURS[name]
    objective = SEPO(NextSite(None), neighbours=kind(64) if kind is SNIS else kind())
    if kind is SNIS:
        return
    estimate = -every.gradient(objective, every.per_path(reward), unused(every.paths))
    exact = exact_gradient(policy, expected_reward(policy, SMALL, reward))
    bias = float((estimate - exact).norm() / exact.norm())
    assert (bias < 1e-9) == (kind is LocalSoftmax)


def test_sampled_neighbours_go_with_the_scores_own_clip_only():
    with pytest.raises(ValueError, match=r"SNIS weighs neighbours of a score.*PPOClip"):
        SEPO(NextSite(), PPOClip(), SNIS(2))
    with pytest.raises(ValueError, match=r"draws=0"):
        SNIS(0)
