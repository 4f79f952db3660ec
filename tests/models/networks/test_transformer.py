"""The bidirectional transformer: its positions, its time, and its configuration as JSON."""

from __future__ import annotations

import pytest
import torch

from sepo.models.networks.positions import POSITIONS, Grid, Learned, Position, PositionTable, Rotary, from_json, to_json
from sepo.models.networks.transformer import Transformer, TransformerConfig
from tests.models.toys import shaken

EACH = [Learned(16), Rotary(100.0), Grid(4, 4, 2, 2), Grid(2, 8)]
each_position = pytest.mark.parametrize("position", EACH, ids=str)


def small(position: Position, time_conditioning: bool = False) -> Transformer:
    config = TransformerConfig(
        6,
        position,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        time_conditioning=time_conditioning,
    )
    return shaken(lambda: Transformer(config))  # type: ignore[return-value]


def test_every_kind_of_position_is_tested_here() -> None:
    assert {type(position) for position in EACH} == set(POSITIONS.values())


@each_position
@torch.no_grad()
def test_a_network_knows_where_a_token_stands(position: Position) -> None:
    network = small(position)
    xt = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3]])
    moved = network(xt.roll(1, dims=1)).roll(-1, dims=1)
    assert not torch.allclose(network(xt), moved, atol=1e-2)


@each_position
def test_a_position_survives_json_and_the_configuration_file(position: Position, tmp_path) -> None:
    assert from_json(to_json(position)) == position
    network = small(position)
    network.save_pretrained(tmp_path)
    loaded = Transformer.from_pretrained(tmp_path)
    assert loaded.positions.position == position
    assert loaded.config.position == to_json(position)
    assert torch.equal(loaded(torch.zeros(1, 16, dtype=torch.long)), network(torch.zeros(1, 16, dtype=torch.long)))


def test_cells_of_a_sudoku_share_their_box_row_and_column_vectors() -> None:
    table = PositionTable(Grid(4, 4, 2, 2), 3)
    rows, columns, boxes = (axis.weight for axis in table.axes)
    vectors = table(torch.zeros(1, 16, 3))[0]
    assert torch.allclose(vectors[6], rows[1] + columns[2] + boxes[1])  # type: ignore[operator]
    assert torch.allclose(vectors[9], rows[2] + columns[1] + boxes[2])  # type: ignore[operator]
    assert torch.allclose(vectors[15], rows[3] + columns[3] + boxes[3])  # type: ignore[operator]


def test_boxes_need_not_be_square() -> None:
    row, column, box = Grid(6, 6, 2, 3).indices(torch.device("cpu"))
    for number in range(6):
        inside = box == number
        assert inside.sum() == 6
        assert row[inside].max() - row[inside].min() == 1
        assert column[inside].max() - column[inside].min() == 2


@torch.no_grad()
def test_rotary_logits_depend_on_distances_alone() -> None:
    network = small(Rotary())
    xt = torch.tensor([[1, 2, 3, 4, 5, 0, 1, 2]])
    attend = torch.tensor([[False] * 3 + [True] * 8])
    shifted = torch.cat((torch.zeros(1, 3, dtype=torch.long), xt), dim=1)
    assert torch.allclose(network(shifted, attend=attend)[:, 3:], network(xt), atol=1e-5)


@torch.no_grad()
def test_time_is_heard_only_by_a_network_that_is_conditioned_on_it() -> None:
    xt, early, late = torch.zeros(1, 16, dtype=torch.long), torch.tensor([0.1]), torch.tensor([4.0])
    free, timed = small(Learned(16)), small(Learned(16), time_conditioning=True)
    assert torch.equal(free(xt, early), free(xt, late))
    assert not torch.allclose(timed(xt, early), timed(xt, late), atol=1e-3)
    with pytest.raises(ValueError, match=r"sigma=None.*give sigma"):
        timed(xt)


@torch.no_grad()
def test_a_shorter_sequence_uses_the_first_learned_positions() -> None:
    network = small(Learned(16))
    xt = torch.arange(6)[None]
    padded = torch.cat((xt, torch.zeros(1, 10, dtype=torch.long)), dim=1)
    attend = (torch.arange(16) < 6)[None]
    assert torch.allclose(network(xt), network(padded, attend=attend)[:, :6], atol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: from_json({"kind": "spiral"}), "'spiral'.*learned, rotary, grid"),
        (lambda: from_json({"kind": "learned", "size": 3}), "see Learned"),
        (lambda: Learned(0), "length=0.*at least 1"),
        (lambda: Grid(4, 4, 3, 2), "3 x 2 do not tile a grid of 4 x 4"),
        (lambda: Grid(4, 4, 2), "both or neither"),
        (lambda: Rotary(1.0), "base=1.0"),
        (lambda: TransformerConfig(hidden_size=20, num_attention_heads=8), "hidden_size=20 with 8 heads"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_new_network_guesses_uniformly() -> None:
    logits = Transformer(TransformerConfig(6, Learned(16)))(torch.zeros(1, 16, dtype=torch.long))
    assert torch.equal(logits, torch.zeros(1, 16, 6))
