"""Temperature and nucleus of confidence decoding: what is drawn, what is recorded, and what the rule looks at."""

from __future__ import annotations

import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.evaluation.exact import total_variation
from sepo.evaluation.worlds import probabilities, random_table
from sepo.samplers import Confidence
from sepo.samplers.confidence import RULES
from tests.samplers.enumerated import confidence_law, tempered
from tests.samplers.filled import drawn
from tests.worlds import DEEP, SMALL


@pytest.mark.parametrize("rule", RULES)
def test_temperature_zero_is_deterministic_and_takes_the_likeliest(rule: str) -> None:
    policy = random_table(DEEP, seed=7)
    path = drawn(Confidence(rule=rule, temperature=0.0), policy, Canvas.blank(50, 4))
    assert len(torch.cat((path.x0, path.order), dim=1).unique(dim=0)) == 1 and (path.log_prob == 0).all()
    for step, state in enumerate(path.states(torch.arange(4).expand(50, -1), mask=2)[0]):
        site = int((path.order[0] == step).nonzero()[0, 0])
        assert probabilities(policy, state.unsqueeze(0))[0, site].argmax() == path.x0[0, site]


OTHERWISE = (
    *(("entropy", 1.0, 0.7), ("max_prob", 0.3, 1.0), ("max_prob", 1.0, 0.7)),
    *(("low_confidence", 0.3, 1.0), ("low_confidence", 1.0, 0.7), ("low_confidence", 2.0, 0.8)),
)
"""Where the order of the sites changes in the world below."""


@pytest.mark.parametrize(("temperature", "top_p"), [(0.3, 1.0), (1.0, 0.7), (2.0, 0.8)])
@pytest.mark.parametrize("rule", RULES)
def test_the_rule_looks_at_the_posterior_or_as_dreams_code_at_what_is_drawn_from(
    rule: str, temperature: float, top_p: float
) -> None:
    """Two enumerated laws; 8,000 draws follow the one that was asked for."""
    policy, cut = random_table(SMALL, seed=6, spread=0.7), tempered(temperature, top_p)
    laws = {
        "posterior": confidence_law(policy, SMALL, rule, cut=cut),
        "tempered": confidence_law(policy, SMALL, rule, cut=cut, seen=cut),
    }
    if (rule, temperature, top_p) in OTHERWISE:
        assert float(total_variation(*laws.values())) > 0.15  # the test can tell them apart
    for confidence, law in laws.items():
        assert law.sum().item() == pytest.approx(1)
        sampler = Confidence(rule=rule, temperature=temperature, top_p=top_p, confidence=confidence)
        found = drawn(sampler, policy, Canvas.blank(8000, 3)).x0
        share = torch.bincount(SMALL.index(found), minlength=len(law)) / 8000
        assert float(total_variation(share.double(), law)) < 0.04
        assert not sampler.exact_density


def test_at_temperature_one_with_all_tokens_both_are_the_same() -> None:
    sampler = Confidence(confidence="tempered")
    assert sampler.exact_density
    first, second = (drawn(each, random_table(SMALL, seed=6), Canvas.blank(50, 3)) for each in (sampler, Confidence()))
    assert torch.equal(first.x0, second.x0) and torch.equal(first.order, second.order)


def test_a_temperature_tempers_the_tokens_and_not_the_confidence() -> None:
    policy = random_table(SMALL, seed=8)
    hot, plain = (drawn(Confidence(temperature=t), policy, Canvas.blank(4000, 3)) for t in (3.0, 1.0))
    first = hot.order.argmin(1)
    assert (first == first[0]).all() and first[0] == plain.order.argmin(1)[0]
    law = probabilities(policy, torch.full((1, 3), 3))[0, first[0], :3].detach()
    law = law ** (1 / 3) / (law ** (1 / 3)).sum()
    share = hot.x0[:, first[0]].bincount(minlength=3) / 4000
    assert float((share - law).abs().max()) < 4 * 0.5 / 4000**0.5
    recorded = hot.log_prob[:, first[0]].exp()
    torch.testing.assert_close(recorded, law[hot.x0[:, first[0]]].float(), rtol=1e-5, atol=1e-6)


def test_nothing_outside_the_nucleus_is_drawn() -> None:
    policy = random_table(SMALL, seed=9)
    path = drawn(Confidence(top_p=0.6), policy, Canvas.blank(4000, 3))
    steps = torch.arange(3).expand(4000, -1)
    for step in range(3):
        site = (path.order == step).to(torch.int8).argmax(1)
        law = probabilities(policy, path.states(steps, mask=3)[:, step])[torch.arange(4000), site].detach()
        token = path.x0.gather(1, site.unsqueeze(1))
        above = torch.where(law > law.gather(1, token), law, 0.0)
        assert (above.sum(1) < 0.6).all()
        inside = torch.stack(
            [law[:, v] * (torch.where(law > law[:, v : v + 1], law, 0.0).sum(1) < 0.6) for v in range(4)]
        )
        expected = law.gather(1, token).squeeze(1) / inside.sum(0)
        recorded = path.log_prob.gather(1, site.unsqueeze(1)).squeeze(1).exp()
        torch.testing.assert_close(recorded, expected.float(), rtol=1e-4, atol=1e-6)
