"""What a nat of path KL costs: constant, or moved so that the KL stays near a target."""

from __future__ import annotations

import pytest

from sepo.training.kl_control import KLControl
from tests.training.toys import lines, trainer


def test_the_price_moves_by_a_share_of_the_relative_error_and_never_by_more_than_a_fifth_of_the_gain():
    control = KLControl(0.1, target=2.0, gain=0.1)
    control.hear(2.2)
    assert control.beta == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    control.hear(20.0)
    assert control.beta == pytest.approx(0.1 * 1.01 * 1.02)
    control.hear(-1.0)
    assert control.beta == pytest.approx(0.1 * 1.01 * 1.02 * 0.98)
    control.restart()
    assert control.beta == 0.1


def test_a_constant_price_stays():
    control = KLControl(0.1)
    control.hear(100.0)
    control.restore(7.0)
    assert control.beta == 0.1


def test_the_price_of_a_collection_is_the_one_before_it_was_seen(tmp_path):
    run = trainer(tmp_path, beta=0.1, target_kl=0.01, kl_gain=1.0, learning_rate=0.1, max_steps=6)
    run.train()
    found = [line for line in lines(tmp_path) if "beta" in line]
    expected = KLControl(0.1, 0.01, 1.0)
    for line in found:
        assert line["beta"] == pytest.approx(expected.beta)
        expected.hear(line["kl"])
    assert len({line["beta"] for line in found}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.05, 0.4])
def test_a_target_holds_the_path_kl_near_it_from_either_side(tmp_path, beta):
    """The mean of the last hundred collections; a single one of 16 paths says little."""
    options = {"max_steps": 250, "learning_rate": 0.005, "lr_scheduler_type": "constant", "states": None, "seed": 1}
    sizes = {"per_device_train_batch_size": 16, "num_generations": 16}
    trainer(tmp_path, beta=beta, target_kl=1.0, **options, **sizes).train()
    found = [line["kl"] for line in lines(tmp_path) if "kl" in line][-100:]
    assert 0.75 < sum(found) / 100 < 1.3


def test_without_a_target_no_price_is_logged(tmp_path):
    trainer(tmp_path, beta=0.1).train()
    assert "beta" not in lines(tmp_path)[0]
