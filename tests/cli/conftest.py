"""What the commands are tried on: a toy task, a model of it pretrained once, and a run of it fine-tuned once."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as transformers_logging

from sepo.cli import main
from sepo.models import save_pretrained
from sepo.oracles import Ensemble
from sepo.oracles.network import ConvOracle, ConvOracleConfig
from sepo.oracles.saved import save_oracle
from sepo.tasks import Measured
from tests.oracles.tables import write_table

TOY = f"{Path(__file__).parent / 'toy.py'}"
TASK = ("--task", f"{TOY}:Toy")
SMALL = ("--use_cpu", "--max_steps", "2", "--logging_steps", "1")
FEW = (*SMALL, "--per_device_train_batch_size", "8", "--judged", "8")


@pytest.fixture(autouse=True)
def libraries_speak_again():
    """Commands silence the libraries beneath them; other tests want to hear them."""
    verbosity, shown = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in ("accelerate", "torch.distributed")}
    with warnings.catch_warnings():
        yield
    transformers_logging.set_verbosity(verbosity)
    if shown:
        transformers_logging.enable_progress_bar()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "pretrained"
    assert main(["pretrain", *TASK, *SMALL, "--save_steps", "1", "--output_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory, pretrained) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "finetuned"
    words = ["--model", str(pretrained), "--output_dir", str(folder), "--beta", "0.1", "--save_steps", "1"]
    assert main(["finetune", *TASK, *FEW, *words]) == 0
    return folder


@pytest.fixture
def table() -> str:
    """200 measured sequences in the folder of the test."""
    return str(write_table(Path("table.csv"), rows=200))


@pytest.fixture
def measured() -> list[str]:
    """A table, a generator that has learned nothing, and oracles that have not either: numbers with a gradient."""
    table = write_table(Path("table.csv"), rows=60)
    torch.manual_seed(0)
    for name in ("reward", "judge"):
        sizes = ConvOracleConfig(hidden_size=8, kernel=5, dropout=0.0, deviation=10.0)
        save_oracle(Ensemble([ConvOracle(sizes)]), Path("oracles") / name)
    task = Measured(str(table), sequence="seq", activity="act", oracles="oracles", hidden_size=8)
    save_pretrained(task.denoiser(), "generator")
    words = ["--task", "measured", "--task.data", "table.csv", "--task.oracles", "oracles"]
    return [*words, "--task.sequence", "seq", "--task.activity", "act"]
