"""The convolutional network for images."""

from __future__ import annotations

import pytest
import torch

from sepo.models.networks.grid import GridConfig, GridNetwork
from tests.models.toys import shaken


def small(height: int = 3, width: int = 5) -> GridNetwork:
    return shaken(lambda: GridNetwork(GridConfig(4, height, width, hidden_size=8, num_hidden_layers=1)))  # type: ignore[return-value]


def test_the_default_is_a_small_network() -> None:
    assert 150_000 < GridNetwork(GridConfig()).num_parameters() < 400_000


@torch.no_grad()
def test_one_layer_sees_the_whole_image() -> None:
    network = small()
    image = torch.zeros(1, 15, dtype=torch.long)
    other = image.index_fill(1, torch.tensor([14]), 3)
    changed = (network(image) - network(other)).abs().amax(-1)[0]
    assert (changed > 1e-4).all()


@torch.no_grad()
def test_neighbours_are_neighbours_in_both_directions() -> None:
    network = small(4, 6)
    for block in network.blocks:
        block.mix.weight.zero_()  # type: ignore[union-attr,operator]
    for norm in [module for module in network.modules() if isinstance(module, torch.nn.GroupNorm)]:
        norm.weight.zero_()  # type: ignore[union-attr]
    hidden = torch.zeros(1, 8, 4, 6)
    hidden[0, :, 1, 2] = 1.0
    block = network.blocks[0]
    reached = (block.conv1(hidden) - block.conv1(torch.zeros_like(hidden))).abs().amax(1)[0] > 1e-6  # type: ignore[union-attr,operator]
    assert reached.nonzero().tolist() == [[row, column] for row in (0, 1, 2) for column in (1, 2, 3)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GridConfig(height=0), "height=0"),
        (lambda: GridConfig(hidden_size=20), "hidden_size=20.*multiple of 8"),
        (lambda: small()(torch.zeros(1, 16, dtype=torch.long)), "16 tokens is no image of 3 x 5: give 15"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_new_network_guesses_uniformly_and_its_blocks_are_the_identity() -> None:
    network = GridNetwork(GridConfig(4, 3, 5, hidden_size=8, num_hidden_layers=2))
    assert torch.equal(network(torch.zeros(1, 15, dtype=torch.long)), torch.zeros(1, 15, 4))
    hidden = torch.randn(1, 8, 3, 5)
    assert torch.equal(network.blocks[1](hidden), hidden)
