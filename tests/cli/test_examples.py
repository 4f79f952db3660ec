"""The examples run: those that are scripts from `main`, the task by its name on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sepo import load
from sepo.cli import main
from sepo.cli.naming import named
from sepo.models import save_pretrained
from sepo.oracles import read_measurements
from sepo.tasks import Digits, Measured, Sudoku
from tests.cli.conftest import SMALL

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_bare_loop_collects_reads_and_steps():
    torch.manual_seed(0)
    save_pretrained(Sudoku().denoiser(), "model")
    metrics = named(f"{EXAMPLES / 'bare_loop.py'}:main")("model", steps=2)
    assert len(metrics) == 2 and metrics[0]["kl"] == pytest.approx(0, abs=1e-4) and metrics[1]["kl"] != 0


def test_the_custom_reward_runs_in_the_trainer_and_on_the_command_line():
    torch.manual_seed(0)
    save_pretrained(Digits().denoiser(), "model")
    path = EXAMPLES / "custom_reward.py"
    assert 0 < named(f"{path}:main")("model", "out", steps=10, batch=8) < 1
    assert load("out").length == 64
    rewards = ["--reward", f"{path}:mirror", f"{path}:ink", "--sampling_steps", "2", "--num_generations", "8"]
    assert main(["finetune", "--model", "model", *SMALL, *rewards, "--output_dir", "again"]) == 0


def test_a_mirrored_picture_is_worth_one_and_a_blank_one_has_no_ink():
    mirror, ink = (named(f"{EXAMPLES / 'custom_reward.py'}:{name}") for name in ("mirror", "ink"))
    picture = torch.zeros(8, 8, dtype=torch.long)
    picture[2:6, 3:5] = 7
    assert mirror([picture.ravel().numpy()]) == [1.0]
    assert ink([torch.zeros(64).numpy()], log_metric=lambda name, value: None) == [None]


def test_the_table_to_try_has_the_activity_of_its_motifs_in_families():
    named(f"{EXAMPLES / 'measured_table.py'}:main")("table.csv", rows=300)
    measured = read_measurements("table.csv", second="second", group="family")
    activity, places = (named(f"{EXAMPLES / 'measured_table.py'}:{name}") for name in ("activity", "places"))
    words = measured.alphabet.decode(measured.tokens)
    noise = measured.activity - torch.tensor([activity(word) for word in words])
    assert len(words) == 300 and measured.length == 60 and len(set(measured.groups)) == 10
    assert float(noise.std()) == pytest.approx(0.2, rel=0.2) and float(measured.activity.std()) > 0.5
    assert places("TGACTCA" + "A" * 53, "TGACTCA") == 0.5 and places("A" * 53 + "TGACTCA", "TGACTCA") == 1.5
    assert activity("TTAATTAA" + "C" * 52) == -1
    task = Measured(data="table.csv", group="family", motifs="motifs.meme", hidden_size=8, stacks=1)
    hits = task.described(measured.tokens)["motif_hits"]
    assert float(hits[measured.activity > 1].double().mean()) > 1.5 * float(
        hits[noise == measured.activity].double().mean()
    )


def test_the_own_task_goes_through_every_command(capsys):
    task = ["--task", f"{EXAMPLES / 'own_task.py'}:Promoters", "--task.number", "40"]
    assert main(["pretrain", *task, *SMALL, "--output_dir", "base"]) == 0
    words = ["--model", "base", "--per_device_train_batch_size", "8", "--judged", "8", "--output_dir", "tuned"]
    assert main(["finetune", *task, *SMALL, *words, "--sampling_steps", "4"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "tuned", *task, "--num", "4", "--steps", "4", "--bound_draws", "1"]) == 0
    assert {"reward", "has_motif", "diversity", "chain_kept"} <= json.loads(capsys.readouterr().out).keys()


def test_the_longest_stretch_of_the_motif_is_what_counts():
    task = named(f"{EXAMPLES / 'own_task.py'}:Promoters")()
    assert task.longest("CCTATAAACC") == 1 and task.longest("GGTATCGG") == 0.5 and task.longest("CCCC") == 0
