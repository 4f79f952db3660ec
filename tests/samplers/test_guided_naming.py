"""Guidance by name: options that leave the inner sampler as it is do so, others lead it; blocks by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.evaluation.exact import kernel_law, optimum
from sepo.evaluation.worlds import count, markov_chain, tabular
from sepo.ops import Chance
from sepo.samplers import Ancestral, Blocks, FirstHitting, TauLeaping, roll, sampler_named
from sepo.samplers.guided import GUIDANCE, SOFT, UNREWARDED, ClassifierFree, guidance_options, guided
from tests.worlds import SMALL, deviations

DATA = markov_chain(SMALL, seed=1)
FEWER = tabular(SMALL, optimum(DATA, count(SMALL, letter=2), -1.0))
"""Of fewer twos: away from it is towards twos."""
NEUTRAL = {
    "best_of_n": {"n": 1},
    "svdd": {"candidates": 1},
    "smc": {"particles": 1, "beta": 1.0},
    "tds": {"particles": 1, "beta": 1.0, "gamma": 0.0, "through_network": False},
    "classifier": {"gamma": 0.0, "through_network": False},
    "classifier_free": {"weight": 0, "unconditional": FEWER},
}
STRONG = {
    "best_of_n": {"n": 8},
    "svdd": {"candidates": 8},
    "smc": {"particles": 8, "beta": 0.3},
    "tds": {"particles": 8, "beta": 0.3, "through_network": False},
    "classifier": {"gamma": 4.0, "through_network": False},
    "classifier_free": {"weight": 2, "unconditional": FEWER},
}


def twos(tokens: Tensor) -> Tensor:
    return (tokens == 2).double().mean(1)


def soft_twos(shares: Tensor) -> Tensor:
    return shares[..., 2].mean(1)


def drawn(name: str, options: dict) -> Tensor:
    sampler = guided(name, Ancestral(4), soft_twos if name in SOFT else twos, options)
    rows = 4000
    return roll(sampler, tabular(SMALL, DATA), Canvas.blank(rows, 3), Chance.of(0, rows)).x0


@pytest.mark.parametrize("name", GUIDANCE)
def test_neutral_options_leave_the_law_of_the_inner_sampler(name: str) -> None:
    law = kernel_law(Ancestral(4), tabular(SMALL, DATA), SMALL)
    found = drawn(name, NEUTRAL[name])
    assert abs(deviations(SMALL, found, law)) < 4


@pytest.mark.parametrize("name", GUIDANCE)
def test_others_raise_the_reward(name: str) -> None:
    assert float(twos(drawn(name, STRONG[name])).mean()) > float(twos(drawn(name, NEUTRAL[name])).mean()) + 0.15


def test_every_guidance_of_the_table_is_tried_here() -> None:
    assert GUIDANCE.keys() == NEUTRAL.keys() == STRONG.keys()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("svd", {}, r"guidance='svd': choose one of best_of_n, svdd"),
        ("svdd", {"candidate": 2}, r"'svdd': guidance_kwargs holds 'candidate'.*candidates, beta"),
        ("smc", {"beta": 1.0}, r"'smc': guidance_kwargs lacks 'particles'"),
        ("svdd", {"candidates": 0}, r"candidates=0"),
        ("svdd", {"candidates": 2.5}, r"'svdd': guidance_kwargs.candidates=2.5 must be a whole number"),
        ("best_of_n", {"n": True}, r"guidance_kwargs.n=True must be a whole number"),
        ("tds", {"beta": 1, "particles": 4, "through_network": 1}, r"through_network=1 must be true or false"),
        ("svdd", {"candidates": 2, "beta": "1e-3"}, r"'svdd': guidance_kwargs.beta='1e-3' must be a number.*1\.0e-3"),
        ("classifier_free", {"gamma": 2.0}, r"'classifier_free': guidance_kwargs holds 'gamma'.*weight, unconditional"),
        ("classifier_free", {}, r"'classifier_free': guidance_kwargs lacks 'weight'"),
        ("classifier_free", {"weight": None}, r"guidance_kwargs.weight=None must be a number"),
        ("classifier_free", {"weight": True}, r"guidance_kwargs.weight=True must be a number"),
    ],
)
def test_what_does_not_fit_is_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        guided(name, Ancestral(4), twos, options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("svdd", {"candidates": 0, "value": "learned"}, r"candidates=0.*needs at least 1"),
        ("smc", {"beta": 0, "particles": 4}, r"SMC\(beta=0.0.*needs beta above 0"),
        ("tds", {"beta": 1, "particles": 0}, r"particles=0"),
        ("best_of_n", {"n": 0}, r"n=0"),
        ("classifier_free", {"weight": float("inf"), "unconditional": "a/folder"}, r"weight=inf"),
    ],
)
def test_ranges_are_known_before_there_is_anything_to_guide(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        guidance_options(name, options)
    assert guidance_options("smc", {"beta": 1, "particles": 4, "value": "learned"})["value"] == "learned"


def test_what_a_second_model_leads_is_given_no_reward() -> None:
    assert UNREWARDED == ("classifier_free",)
    made = guided("classifier_free", Ancestral(4), None, {"weight": 2, "unconditional": FEWER})
    assert made == ClassifierFree(Ancestral(4), 2.0, FEWER)
    assert guidance_options("tds", {"particles": 2, "beta": 1, "gamma": None})["gamma"] is None


def test_blocks_have_a_name_and_an_inner_sampler_by_name() -> None:
    plain = {"block_length": 2, "blocks": 3}
    assert sampler_named("blocks", 5, plain) == Blocks(Ancestral(5), 2, 3)
    inner = {"inner": "tau_leaping"}
    assert sampler_named("blocks", None, {**plain, **inner}) == Blocks(TauLeaping(), 2, 3)
    with pytest.raises(ValueError, match=r"lacks 'block_length'.*inner"):
        sampler_named("blocks", 5, {"blocks": 3})
    with pytest.raises(ValueError, match=r"holds 'length', which blocks does not have"):
        sampler_named("blocks", 5, {**plain, "length": 3})
    assert isinstance(sampler_named("first_hitting"), FirstHitting)
    with pytest.raises(ValueError, match="dplm, blocks"):
        sampler_named("block")


def test_one_block_draws_the_law_of_its_inner_sampler() -> None:
    policy, rows = tabular(SMALL, DATA), 6000
    sampler = sampler_named("blocks", 3, {"block_length": 3, "blocks": 1})
    found = roll(sampler, policy, Canvas.blank(rows, 3), Chance.of(1, rows)).x0
    assert abs(deviations(SMALL, found, kernel_law(Ancestral(3), policy, SMALL))) < 4
    assert float((torch.bincount(SMALL.index(found), minlength=27) / rows - DATA).abs().sum()) > 0.1
