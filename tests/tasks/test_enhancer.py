"""The enhancer benchmark from files in the authors' layout: what is rewarded, what is reported, what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo.cli import main
from sepo.evaluation.enhancers import log_likelihoods
from sepo.models import load
from sepo.oracles import load_lightning
from sepo.tasks.enhancer import FILES, Enhancer
from tests.evaluation.motif_files import write_many
from tests.oracles import fake_grelu
from tests.tasks.drakes_files import LENGTH, write_files

SAMPLES = list(torch.randint(4, (8, LENGTH), generator=torch.Generator().manual_seed(0)).numpy())
TOKENS = torch.tensor(np.stack(SAMPLES))


@pytest.fixture(autouse=True)
def grelu(monkeypatch):
    fake_grelu.installed(monkeypatch)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("drakes"))


def test_the_training_oracle_rewards_and_the_evaluation_oracle_reports(home) -> None:
    task = Enhancer(str(home), top=0.05, device="cpu", likelihood=False)
    first, second = (load_lightning(home / FILES[name])(TOKENS) for name in ("reward", "judge"))
    assert task.reward([None] * 8, SAMPLES, [[0]] * 8) == first.tolist()
    metrics = task.metrics([None] * 8, SAMPLES)
    assert metrics["pred_activity"] == pytest.approx(float(second.quantile(0.5)))
    assert metrics["reward_median"] == pytest.approx(float(first.median()))
    access = load_lightning(home / FILES["open"]).tracks(TOKENS)
    assert access.shape == (8, 7)
    for name, column in (("atac_accuracy_published", 1), ("atac_accuracy_column_0", 0)):
        assert metrics[name] == pytest.approx(float((access[:, column] > 0.5).double().mean()))
    assert metrics["distinct"] == 1 and "log_likelihood" not in metrics and "motif_correlation" not in metrics


def test_all_five_metrics_are_there_published_and_corrected(home, tmp_path) -> None:
    pytest.importorskip("Bio")
    task = Enhancer(str(home), str(write_many(tmp_path / "motifs.txt")), draws=4, top=0.5, device="cpu")
    twice = [*SAMPLES, *SAMPLES[:4]]
    metrics = task.metrics([None] * 12, twice)
    names = ("pred_activity", "atac_accuracy", "kmer_correlation", "motif_correlation", "log_likelihood")
    assert {*names, *(f"{name}_published" for name in names)} <= metrics.keys()
    policy = load(home / FILES["pretrained"], pickles=True)
    coarse, fine = log_likelihoods(policy, torch.tensor(np.stack(twice)), draws=4)
    assert metrics["log_likelihood_published"] == pytest.approx(float(coarse.quantile(0.5)))
    assert metrics["log_likelihood"] == pytest.approx(float(fine[:8].quantile(0.5)))
    assert metrics["log_likelihood"] == pytest.approx(-LENGTH * np.log(4), abs=4)  # an untrained network
    assert metrics["distinct"] == pytest.approx(8 / 12)


def test_the_archives_own_folder_is_found_and_what_is_missing_is_named(home, tmp_path) -> None:
    (tmp_path / "BASE").mkdir()
    (tmp_path / "BASE" / "mdlm").symlink_to(home / "mdlm")
    assert len(Enhancer(str(tmp_path)).measured) == 200
    with pytest.raises(ValueError, match=r"pretrained.ckpt is not there: unpack the authors' DRAKES_data.zip"):
        Enhancer("nowhere").path("pretrained")


@pytest.mark.slow
def test_the_recipe_fine_tunes_and_evaluates_on_these_files(home, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DRAKES_data").symlink_to(home)
    small = ("--max_steps", "2", "--per_device_train_batch_size", "8", "--sampling_steps", "4", "--judged", "8")
    rest = ("--use_cpu", "true", "--logging_steps", "1", "--task.top", "0.05", "--task.likelihood", "false")
    assert main(["finetune", "enhancer_drakes", *small, *rest]) == 0
    summary = json.loads(Path("runs/enhancer_drakes/summary.json").read_text())
    assert {"pred_activity", "pred_activity_before", "atac_accuracy_published"} <= summary.keys()
    words = ("--task", "enhancer", "--task.top", "0.05", "--num", "8", "--device", "cpu", "--bound_draws", "1")
    assert main(["evaluate", "runs/enhancer_drakes", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"pred_activity", "log_likelihood", "log_likelihood_published", "held_out_bound"} <= found.keys()
