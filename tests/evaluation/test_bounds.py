"""The held-out bound: tight for the ideal denoiser, the same however it is split, per token and per sequence."""

from __future__ import annotations

import math

import pytest
import torch

from sepo.evaluation.bounds import held_out_bound
from sepo.evaluation.exact import first_hitting_law
from sepo.evaluation.worlds import markov_chain, random_table, tabular
from sepo.ops import Chance, draw
from tests.worlds import SMALL


def samples(batch: int) -> torch.Tensor:
    law = markov_chain(SMALL).expand(batch, -1)
    return SMALL.sequences[draw(law, Chance.of(0, batch).uniform())]


def test_it_is_the_entropy_of_the_data_for_the_ideal_denoiser() -> None:
    x0 = samples(500)
    found = held_out_bound(tabular(SMALL, markov_chain(SMALL)), x0, draws=3)
    exact = -markov_chain(SMALL).log()[SMALL.index(x0)]
    assert found.nats_per_sequence == pytest.approx(float(exact.mean()), abs=5 * 3 * found.standard_error)
    assert found.nats_per_token == pytest.approx(found.nats_per_sequence / 3)
    assert found.perplexity == pytest.approx(math.exp(found.nats_per_token))
    assert found.bits_per_token == pytest.approx(found.nats_per_token / math.log(2))
    assert (found.sequences, found.tokens) == (500, 1500)
    assert 0 < found.standard_error < 0.05


def test_it_lies_above_the_samplers_own_likelihood_for_an_inconsistent_network() -> None:
    policy, x0 = random_table(SMALL), samples(500)
    exact = -first_hitting_law(policy, SMALL).log().detach()[SMALL.index(x0)].mean()
    assert held_out_bound(policy, x0, draws=9).nats_per_sequence > float(exact)


def test_it_does_not_depend_on_how_the_data_is_split() -> None:
    policy, x0 = random_table(SMALL), samples(20)
    assert held_out_bound(policy, x0, at_once=3) == pytest.approx(held_out_bound(policy, x0, at_once=64))


def test_given_sites_are_conditioned_on_and_not_counted() -> None:
    policy, x0 = tabular(SMALL, markov_chain(SMALL)), samples(200)
    free = torch.tensor([False, True, False]).expand(200, -1)
    found = held_out_bound(policy, x0, free)
    law = policy.log_posterior(x0.masked_fill(free, 3), torch.full((200,), 0.5)).detach()
    assert found.tokens == 200
    assert found.nats_per_sequence == pytest.approx(float(-law[range(200), 1, x0[:, 1]].mean()))


def test_nothing_to_bound_is_named() -> None:
    policy, x0 = random_table(SMALL), samples(2)
    with pytest.raises(ValueError, match=r"0 free sites"):
        held_out_bound(policy, x0, torch.zeros_like(x0, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"0 sequences"):
        held_out_bound(policy, x0[:0])
