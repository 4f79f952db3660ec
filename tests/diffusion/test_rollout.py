"""Canvases and rollouts: states are recovered from tokens and order."""

from __future__ import annotations

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.likelihood import state_views
from sepo.diffusion.process import Absorbing, Uniform
from sepo.diffusion.rollout import MaskedPath
from sepo.ops import Chance


def example() -> MaskedPath:
    tokens = torch.tensor([[7, 0, 0, 0], [0, 0, 0, 0]])
    free = torch.tensor([[False, True, True, True], [True, True, True, True]])
    x0 = torch.tensor([[7, 1, 2, 3], [4, 5, 6, 7]])
    order = torch.tensor([[-1, 2, 0, 2], [1, 1, 0, 3]])
    return MaskedPath(Canvas(tokens, free), x0, order, torch.linspace(1, 0.3, 8).view(2, 4), torch.zeros(2, 4))


def test_states_are_the_tokens_that_had_appeared() -> None:
    states = example().states(torch.tensor([[0, 1, 2, 3]] * 2), mask=9)
    assert states[0].tolist() == [[7, 9, 9, 9], [7, 9, 2, 9], [7, 9, 2, 9], [7, 1, 2, 3]]
    assert states[1].tolist() == [[9, 9, 9, 9], [9, 9, 6, 9], [4, 5, 6, 9], [4, 5, 6, 9]]


def test_given_sites_are_neither_masked_nor_revealed() -> None:
    steps = torch.arange(4).expand(2, -1)
    assert not example().masked(steps)[0, :, 0].any()
    assert not example().revealed(steps)[0, :, 0].any()
    assert (example().revealed(steps).sum((1, 2)) == example().canvas.free.sum(1)).all()


def test_active_steps_are_those_in_which_something_appeared() -> None:
    assert example().active().tolist() == [[True, False, True, False], [True, True, False, True]]


def test_views_weigh_what_was_revealed_and_spread_it_over_what_was_masked() -> None:
    """Row 0 reveals site 2 of three masks, then sites 1 and 3; row 1 site 2 of four, then sites 0 and 1 of three."""
    share = torch.tensor([[1.0, 2.0], [0.5, 3.0]])
    seen = state_views(example(), torch.tensor([[0, 2], [0, 1]]), Absorbing(10, 9), share)
    assert seen.weight[0].tolist() == [[0, 0, 1, 0], [0, 2, 0, 2]]
    assert seen.weight[1].tolist() == [[0, 0, 0.5, 0], [3, 3, 0, 0]]
    third, quarter = 1 / 3, 0.5 / 4
    torch.testing.assert_close(seen.hazard[0], torch.tensor([[0, third, third, third], [0, 2, 0, 2.0]]))
    torch.testing.assert_close(seen.hazard[1], torch.tensor([[quarter] * 4, [2.0, 2.0, 0, 2.0]]))
    assert torch.equal(seen.t, example().times.gather(1, torch.tensor([[0, 2], [0, 1]])))


def test_a_group_is_the_same_canvas_in_consecutive_rows() -> None:
    canvas = example().canvas.repeat(3)
    assert len(canvas) == 6 and torch.equal(canvas.tokens[:3], example().canvas.tokens[:1].expand(3, -1))


def test_the_start_keeps_what_is_given_and_the_rest_is_noise() -> None:
    canvas = example().canvas
    assert canvas.start(Absorbing(10, 9), Chance.of(0, 2)).tolist() == [[7, 9, 9, 9], [9, 9, 9, 9]]
    uniform = canvas.start(Uniform(10), Chance.of(0, 2))
    assert uniform[0, 0] == 7 and len(uniform.unique()) > 2
    assert Canvas.blank(2, 3).free.all() and Canvas.blank(2, 3).attend is None
