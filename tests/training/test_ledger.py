"""The ledger of a log line."""

from __future__ import annotations

import math

import pytest
import torch

from sepo.training.ledger import Ledger


def test_it_settles_the_mean_of_what_was_noted_and_begins_anew():
    ledger = Ledger()
    ledger.note({"a": 1.0, "b": 2.0})
    ledger.note({"a": 3.0})
    assert ledger.settle() == {"a": 2.0, "b": 2.0}
    assert ledger.settle() == {}


def test_tensors_are_waited_for_when_the_line_is_due(monkeypatch):
    ledger, number = Ledger(), torch.tensor(2.0, requires_grad=True) * 2
    with monkeypatch.context() as patched:
        for wait in ("item", "tolist", "__float__"):
            patched.setattr(torch.Tensor, wait, lambda *_: pytest.fail("the device is waited for"))
        ledger.note({"a": number, "b": torch.tensor(math.nan)})
        ledger.note({"a": 1.0})
    assert ledger.state() == {"sums": {"a": 5.0}, "counts": {"a": 2}}
    assert ledger.settle() == {"a": 2.5}


def test_nan_takes_no_part():
    ledger = Ledger()
    ledger.note({"a": math.nan, "b": 1.0})
    ledger.note({"a": 4.0, "b": math.nan})
    assert ledger.settle() == {"a": 4.0, "b": 1.0}


def test_its_state_outlives_it():
    ledger, again = Ledger(), Ledger()
    ledger.note({"a": 1.0})
    state = ledger.state()
    ledger.note({"a": 5.0})
    again.restore(state)
    again.note({"a": 2.0})
    assert again.settle() == {"a": 1.5}


def test_means_of_records_skip_what_a_record_lacks():
    assert Ledger.mean_of([{"a": 1.0}, {"a": 3.0, "b": 1.0}]) == {"a": 2.0, "b": 1.0}
