"""Records are moved, indexed, joined and listed as one thing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sepo.record import Record, concatenate


@dataclass(frozen=True, eq=False)
class Inner(Record):
    values: Tensor


@dataclass(frozen=True, eq=False)
class Outer(Record):
    inner: Inner
    weights: Tensor
    missing: Tensor | None = None


def example() -> Outer:
    return Outer(Inner(torch.arange(6).view(3, 2)), torch.tensor([0.5, 1.5, 2.5]))


def test_rows_are_taken_from_every_tensor() -> None:
    part = example()[1:]
    assert part.inner.values.tolist() == [[2, 3], [4, 5]]
    assert part.weights.tolist() == [1.5, 2.5]
    assert part.missing is None
    assert len(part) == 2
    assert example()[torch.tensor([2, 0])].inner.values.tolist() == [[4, 5], [0, 1]]


def test_an_int_index_would_drop_the_batch_axis_and_is_refused() -> None:
    with pytest.raises(ValueError, match=r"record\[1\].*record\[1:2\]"):
        example()[1]


def test_concatenate_undoes_slicing() -> None:
    whole = concatenate([example()[:1], example()[1:]])
    assert torch.equal(whole.inner.values, example().inner.values)
    assert torch.equal(whole.weights, example().weights)
    assert whole.missing is None


def test_tensors_are_listed_under_dotted_names() -> None:
    assert list(example().tensors()) == ["inner.values", "weights"]


def test_map_and_to_reach_every_tensor() -> None:
    doubled = example().map(lambda tensor: tensor * 2)
    assert doubled.inner.values[2].tolist() == [8, 10]
    assert doubled.weights[0] == 1.0
    assert example().to("meta").inner.values.device.type == "meta"
