"""Draws follow their probabilities and their seeds; sums next to log 0 stay finite with their slopes."""

from __future__ import annotations

import math

import pytest
import torch

from sepo.ops import Chance, divergence, draw, entropy, pick, rows


def test_draw_inverts_the_cumulative_sum_and_needs_no_normalisation() -> None:
    probabilities = torch.tensor([[0.2, 0.3, 0.5]]) * 7
    for uniform, token in ((0.0, 0), (0.199, 0), (0.201, 1), (0.499, 1), (0.501, 2), (1 - 2**-53, 2)):
        assert draw(probabilities, torch.tensor([uniform], dtype=torch.double)).item() == token


def test_draw_never_takes_a_category_without_mass() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]])
    uniform = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-53], dtype=torch.double)
    assert draw(probabilities.expand(5, -1), uniform).tolist() == [1, 1, 3, 3, 3]


def test_draw_resolves_a_token_of_one_in_a_hundred_million() -> None:
    """Float32 Gumbel-max could not: sums are in float64."""
    probabilities = torch.full((1, 2), 1.0)
    probabilities[0, 0] = 1e-8
    assert draw(probabilities, torch.tensor([0.9e-8], dtype=torch.double)).item() == 0
    assert draw(probabilities, torch.tensor([1.1e-8], dtype=torch.double)).item() == 1


@pytest.mark.parametrize("vocab", [1025, 2048, 3000])
def test_a_draw_by_blocks_is_the_draw_from_the_whole_cumulative_sum(vocab: int) -> None:
    generator = torch.Generator().manual_seed(vocab)
    probabilities = torch.rand(200, vocab, generator=generator, dtype=torch.double)
    probabilities *= torch.rand(200, vocab, generator=generator) < 0.02
    uniform = torch.rand(200, generator=generator, dtype=torch.double)
    uniform[:2] = torch.tensor([0.0, 1 - 2**-53], dtype=torch.double)
    cumulative = probabilities.cumsum(-1)
    whole = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1)
    assert torch.equal(draw(probabilities, uniform), whole)
    assert (pick(probabilities.float(), draw(probabilities.float(), uniform)) > 0).all()


def test_a_draw_by_blocks_resolves_rare_tokens_within_and_between_blocks() -> None:
    probabilities = torch.zeros(1, 5000)
    probabilities[0, [0, 1, 4999]] = torch.tensor([1e-8, 1.0, 1e-8])
    for uniform, token in ((0.9e-8, 0), (1.1e-8, 1), (1 - 1.1e-8, 1), (1 - 0.9e-8, 4999)):
        assert draw(probabilities, torch.tensor([uniform], dtype=torch.double)).item() == token


def test_pick_and_rows_gather_what_their_names_say() -> None:
    values = torch.arange(24.0).view(2, 3, 4)
    assert pick(values, torch.tensor([[0, 1, 2], [3, 2, 1]])).tolist() == [[0.0, 5.0, 10.0], [15.0, 18.0, 21.0]]
    assert rows(values, torch.tensor([[2, 0], [1, 1]]))[0].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert rows(values, torch.tensor([[2, 0], [1, 1]]))[1].tolist() == [[16, 17, 18, 19], [16, 17, 18, 19]]


def test_entropy_and_divergence_are_finite_with_finite_slopes_next_to_ruled_out_tokens() -> None:
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [0.0, -torch.inf, -torch.inf]], requires_grad=True)
    other = torch.tensor([[2.0, 1.0, -torch.inf], [0.0, -torch.inf, -torch.inf]])
    value = entropy(logits.log_softmax(-1)).sum() + divergence(logits.log_softmax(-1), other.log_softmax(-1)).sum()
    value.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    p = torch.tensor([1.0, 2.0]).softmax(0)
    q = torch.tensor([2.0, 1.0]).softmax(0)
    assert value.item() == pytest.approx(float(-(p * p.log()).sum() + (p * (p / q).log()).sum()), abs=1e-6)


def test_the_entropy_of_a_fair_choice_is_log_n() -> None:
    assert entropy(torch.zeros(1, 5).log_softmax(-1)).item() == pytest.approx(math.log(5))


def test_a_groups_numbers_do_not_depend_on_the_batch_it_travels_in() -> None:
    together = Chance.seeded(7, [4, 9, 2], rows=3)
    alone = Chance.seeded(7, [9], rows=3)
    for shape in ((), (5,), (2, 3)):
        assert torch.equal(together.uniform(*shape)[3:6], alone.uniform(*shape))


def test_seed_purpose_and_group_all_change_the_numbers() -> None:
    first = Chance.seeded(1, [0], rows=2).uniform(4)
    for other in (Chance.seeded(2, [0], 2), Chance.seeded(1, [1], 2), Chance.seeded(1, [0], 2, purpose=1)):
        assert not torch.equal(first, other.uniform(4))
    assert torch.equal(first, Chance.of(1, 2).uniform(4))


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = Chance.of(3, 4).uniform(2)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(first, Chance.of(3, 4).uniform(2))
