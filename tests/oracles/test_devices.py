"""Where oracles stand: on the device that was asked for, with answers on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sepo.oracles import ConvOracle, ConvOracleConfig, Ensemble, Fit, fit, load_oracle, oracle_named, save_oracle
from sepo.oracles.fitting import predicted
from sepo.oracles.measurements import read_measurements
from sepo.tasks import Measured
from tests.oracles.tables import LENGTH, write_table

TOKENS = torch.randint(4, (5, LENGTH), generator=torch.Generator().manual_seed(0))
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_oracle(Ensemble([ConvOracle(ConvOracleConfig(hidden_size=4)) for _ in range(2)]), tmp_path / "reward")
    return tmp_path / "reward"


def standing(oracle: object) -> set[str]:
    assert isinstance(oracle, Ensemble)
    return {each.device.type for each in oracle.parameters()}


def test_a_folder_is_opened_on_the_device(folder: Path) -> None:
    assert standing(load_oracle(folder)) == standing(oracle_named(str(folder), "ACGT")) == {"cpu"}
    assert standing(load_oracle(folder, device="meta")) == {"meta"}
    assert standing(oracle_named(str(folder), "ACGT", device="meta")) == {"meta"}


def test_the_task_passes_its_device_to_fitted_oracles_and_to_those_from_outside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = str(write_table(folder.parent / "table.csv", rows=60))
    columns = {"data": table, "sequence": "seq", "activity": "act", "oracles": str(folder.parent)}
    other = folder.parent / "other"
    save_oracle(Ensemble([ConvOracle(ConvOracleConfig(hidden_size=4))]), other)
    with pytest.raises(ValueError, match="device='xpu:1': torch sees cpu"):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
        Measured(**columns, device="xpu:1").oracle("reward")  # type: ignore[arg-type]
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    for device, found in (("meta", "meta"), ("cpu", "cpu"), (None, "meta")):
        task = Measured(**columns, judge_oracle=str(other), device=device)  # type: ignore[arg-type]
        assert standing(task.oracle("reward")) == standing(task.oracle("judge")) == {found}


def test_a_network_is_fitted_on_the_device(tmp_path: Path) -> None:
    measured = read_measurements(str(write_table(tmp_path / "t.csv", rows=60)), sequence="seq", activity="act")
    with pytest.raises(NotImplementedError, match="meta"):  # which has no numbers that could be compared
        fit(measured, Fit(hidden_size=4, epochs=1), device="meta")


@gpu
def test_what_is_fitted_on_a_gpu_stays_there_and_answers_on_the_cpu(tmp_path: Path) -> None:
    measured = read_measurements(str(write_table(tmp_path / "t.csv", rows=200)), sequence="seq", activity="act")
    before = torch.cuda.get_rng_state()
    member = fit(measured, Fit(hidden_size=8, epochs=2), device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)
    save_oracle(Ensemble([member]), tmp_path / "reward")
    answers = Ensemble([member])(TOKENS)
    assert standing(Ensemble([member])) == {"cuda"} and answers.device.type == "cpu"
    torch.testing.assert_close(load_oracle(tmp_path / "reward")(TOKENS), answers, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(predicted(member.cpu(), TOKENS), answers, atol=1e-3, rtol=1e-3)
