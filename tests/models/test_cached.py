"""Keys and values that are kept: exact where nothing outside the sites that are computed can have changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM, PreTrainedModel

from sepo.diffusion.cached import KeyValues, read_all, read_at
from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.diffusion.process import Absorbing
from sepo.models import FAMILIES, as_denoiser, family_of
from sepo.models.critic import with_critic
from sepo.models.language_model import both_ways
from tests.models.attending import NETWORKS, dit, policy_of
from tests.models.toys import LENGTH, MASK, SIZE, denoiser, half_masked, shaken

T = torch.full((3,), 0.5)
AT = torch.tensor([[4, 5, 6, 7], [2, 3, 4, 5], [9, 10, 11, 11]])
"""Runs of neighbours, the last of them shorter than the others."""
EVERYWHERE = torch.arange(LENGTH).expand(3, -1)
each_network = pytest.mark.parametrize("name", NETWORKS)


def changed_at(xt: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Masks at the even ones of these sites, other tokens at the odd ones."""
    return xt.scatter(1, at, torch.where(at % 2 == 0, MASK, (xt.gather(1, at) + 2) % MASK))


def exact(policy: Denoiser, xt: torch.Tensor, sites: torch.Tensor, attend: torch.Tensor | None = None) -> torch.Tensor:
    return policy.log_posterior(xt, T, attend, sites)


def test_every_family_that_can_keep_is_tested_here() -> None:
    tested = {family_of(build(1)) for build in NETWORKS.values()}
    assert tested == {name for name, family in FAMILIES.items() if family.cached_call is not None}


@each_network
@torch.no_grad()
def test_keeping_changes_nothing_of_what_is_read(name: str) -> None:
    policy, xt = policy_of(name, 2), half_masked()
    law, kept = read_all(policy, xt, T, None, AT)
    torch.testing.assert_close(law, exact(policy, xt, AT))
    again = read_at(policy, xt, T, None, AT, kept, AT)
    torch.testing.assert_close(again, law, atol=1e-5, rtol=1e-5)


@each_network
@torch.no_grad()
def test_with_all_sites_computed_again_nothing_of_the_earlier_state_is_left(name: str) -> None:
    policy, xt = policy_of(name, 3), half_masked()
    _, kept = read_all(policy, xt, T, None, AT)
    other = changed_at(xt, EVERYWHERE)
    law = read_at(policy, other, T, None, EVERYWHERE, kept, EVERYWHERE)
    torch.testing.assert_close(law, exact(policy, other, EVERYWHERE), atol=1e-5, rtol=1e-5)


@each_network
@torch.no_grad()
def test_one_layer_is_exact_and_two_are_near(name: str) -> None:
    """Keys and values of the first layer are of a site's own token; those of the second know what stood elsewhere."""
    xt = half_masked()
    other = changed_at(xt, AT)
    masked = ((xt == MASK) & (other == MASK)).gather(1, AT)
    for layers, least, most in ((1, 0.0, 1e-5), (2, 1e-5, 0.1)):
        policy = policy_of(name, layers)
        _, kept = read_all(policy, xt, T, None, AT)
        difference = read_at(policy, other, T, None, AT, kept, AT).exp() - exact(policy, other, AT).exp()
        before = exact(policy, xt, AT).exp() - exact(policy, other, AT).exp()
        assert least <= float(difference.abs().max()) <= most
        assert float(before[masked].abs().max()) > 1e-3, "the change must matter"
        assert float(difference[masked].abs().mean()) < 0.5 * float(before[masked].abs().mean())


@each_network
@torch.no_grad()
def test_what_was_kept_is_written_over_and_the_next_reading_sees_it(name: str) -> None:
    policy, xt = policy_of(name, 1), half_masked()
    _, kept = read_all(policy, xt, T, None, AT)
    other = changed_at(xt, AT)
    read_at(policy, other, T, None, AT, kept, AT)
    elsewhere = torch.tensor([[0, 1], [0, 1], [0, 1]])
    law = read_at(policy, other, T, None, elsewhere, kept, elsewhere)
    torch.testing.assert_close(law, exact(policy, other, elsewhere), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("behind", [True, False])
@each_network
@torch.no_grad()
def test_padding_on_either_side_is_not_attended_to(name: str, behind: bool) -> None:
    policy, xt = policy_of(name, 1), half_masked()
    told = torch.arange(LENGTH).expand(3, -1) < torch.tensor([[LENGTH], [9], [7]])
    attend, at = (told, AT - torch.tensor([[0], [0], [5]])) if behind else (told.flip(1), AT)
    _, kept = read_all(policy, xt, T, attend, at)
    other = changed_at(xt, at).where(attend, (xt + 1) % SIZE)
    law = read_at(policy, other, T, attend, at, kept, at)
    torch.testing.assert_close(law, exact(policy, other, at, attend), atol=1e-5, rtol=1e-5)
    assert float((law.exp() - exact(policy, other, at).exp())[1:].abs().max()) > 1e-3, "padding must matter"


@torch.no_grad()
def test_shifted_logits_compute_the_site_before_as_well() -> None:
    """Its output speaks of the first site: computed at an earlier state it would be of that state."""
    policy, xt = policy_of("dream", 1), half_masked()
    at = torch.tensor([[5]]).expand(3, 1)
    _, kept = read_all(policy, xt, T, None, at)
    other = changed_at(xt, torch.tensor([[4, 5, 6]]).expand(3, 3))
    run = torch.tensor([[4, 5, 6]]).expand(3, 3)
    read_at(policy, other, T, None, run, kept, run)
    law = read_at(policy, other, T, None, at, kept, at)
    torch.testing.assert_close(law, exact(policy, other, at), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("name", "sites"), [("llama", 4), ("dream", 5)])
def test_an_evaluation_at_some_sites_counts_once_and_its_sites_apart(name: str, sites: int) -> None:
    """Where the site before them speaks of the first one, it is computed too."""
    policy, xt = replace(policy_of(name, 1), meter=Meter()), half_masked()
    _, kept = read_all(policy, xt, T, None, AT)
    assert policy.meter == Meter(evaluations=3, sites=3 * LENGTH)
    read_at(policy, xt, T, None, AT, kept, AT)
    assert policy.meter == Meter(evaluations=6, sites=3 * LENGTH + 3 * sites)


@torch.no_grad()
def test_rows_are_taken_and_put_back() -> None:
    kept = KeyValues([torch.zeros(3, 1, 2, 2)], [torch.ones(3, 1, 2, 2)], computed=2)
    some = kept.rows(torch.tensor([2]))
    some.keys[0].fill_(5.0)
    assert kept.keys[0].sum() == 0
    kept.put(torch.tensor([1]), some)
    assert kept.keys[0][1].eq(5.0).all() and kept.keys[0][[0, 2]].eq(0.0).all() and kept.values[0].eq(1.0).all()


def gpt2() -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=SIZE, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return both_ways(shaken(lambda: GPT2LMHeadModel(config)))


@torch.no_grad()
def test_other_decoders_of_transformers_keep_too() -> None:
    policy, xt = as_denoiser(gpt2(), Absorbing(SIZE, mask=MASK)), half_masked()
    _, kept = read_all(policy, xt, T, None, AT)
    other = changed_at(xt, AT)
    law = read_at(policy, other, T, None, AT, kept, AT)
    torch.testing.assert_close(law, exact(policy, other, AT), atol=1e-5, rtol=1e-5)


def mistral() -> PreTrainedModel:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = MistralConfig(vocab_size=SIZE, intermediate_size=32, sliding_window=4, **shape)
    return both_ways(shaken(lambda: MistralForCausalLM(config)))


@torch.no_grad()
def test_layers_that_see_a_window_alone_are_refused() -> None:
    policy = as_denoiser(mistral(), Absorbing(SIZE, mask=MASK))
    with pytest.raises(ValueError, match=r"sliding_attention.*attend to all sites.*cache=None"):
        read_all(policy, half_masked(), T, None, AT)


@torch.no_grad()
def test_a_network_that_keeps_nothing_is_refused() -> None:
    for policy in (denoiser("masked_lm"), with_critic(policy_of("llama", 1))):
        with pytest.raises(ValueError, match=r"cannot keep keys and values.*language_model.*Set cache=None"):
            read_all(policy, half_masked(), T, None, AT)


def test_there_is_no_gradient_through_what_is_kept() -> None:
    policy = as_denoiser(dit(1), Absorbing(SIZE, mask=MASK))
    with pytest.raises(ValueError, match=r"no gradient.*no_grad"):
        read_all(policy, half_masked(), T, None, AT)
