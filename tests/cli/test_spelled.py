"""Rewards that are named beside a task that knows letters read letters; those made for arrays read arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sepo.cli import main
from sepo.cli.naming import rewards_named
from sepo.models import save_pretrained
from sepo.runs import RunFolder, read_metrics
from sepo.tasks import Measured
from tests.cli.conftest import FEW, TOY
from tests.cli.toy import Toy

OWN = """\
from sepo.rewards import ArrayReward

def adenines(completions, **kwargs):
    return [float(text.count("A")) for text in completions]

async def cytosines(completions):
    return [float(text.upper().count("C")) for text in completions]

def oracle(sequences):
    return [float(len(sequence)) for sequence in sequences]

def zeros_of(tokens):
    return (tokens == 0).sum(axis=1)

zeros = ArrayReward(zeros_of)
"""


@pytest.fixture
def words(table) -> list[str]:
    """A model that has learned nothing, and the task of its table with functions for oracles."""
    Path("own_letters.py").write_text(OWN)
    save_pretrained(Measured(table, sequence="seq", activity="act", hidden_size=8, stacks=1).denoiser(), "generator")
    options = {"data": table, "sequence": "seq", "activity": "act"}
    options |= {"reward_oracle": "own_letters.py:oracle", "judge_oracle": "own_letters.py:adenines"}
    return ["--task", "measured", *(word for name in options for word in (f"--task.{name}", options[name]))]


def test_a_reward_named_beside_a_table_reads_letters(words, capsys):
    named = ["--reward", "own_letters.py:adenines", "own_letters.py:cytosines", "own_letters.py:zeros"]
    few = ["--num", "8", "--steps", "4", "--device", "cpu"]
    assert main(["evaluate", "generator", *words, *named, *few, "--bound_draws", "0"]) == 0
    rewards = json.loads(capsys.readouterr().out)["rewards"]
    assert main(["sample", "generator", *words, *few]) == 0
    lines = capsys.readouterr().out.splitlines()
    adenines, cytosines = (np.mean([line.count(letter) for line in lines]) for letter in "AC")
    assert rewards == {"adenines": adenines, "cytosines": cytosines, "zeros_of": adenines}


def test_it_leads_a_guidance(words, capsys):
    few = ["--num", "8", "--steps", "4", "--device", "cpu"]
    assert main(["sample", "generator", *words, *few]) == 0
    plain = capsys.readouterr().out
    led = ["--reward", "own_letters.py:adenines", "--guidance", "best_of_n", "--guidance_kwargs.n", "8"]
    assert main(["sample", "generator", *words, *few, *led]) == 0
    assert capsys.readouterr().out.count("A") > plain.count("A")


def test_it_is_trained_on(words):
    reward = ["--model", "generator", "--reward", "own_letters.py:adenines", "--output_dir", "tuned"]
    assert main(["finetune", *words, *reward, *FEW, "--sampling_steps", "4"]) == 0
    means = [line["rewards/adenines/mean"] for line in read_metrics(RunFolder(Path("tuned"))) if "reward" in line]
    assert means and all(mean > 0 for mean in means)
    assert json.loads(Path("tuned/summary.json").read_text())["reward_before"] > 0


def test_without_letters_rewards_read_arrays():
    [light] = rewards_named(f"{TOY}:light", Toy())
    assert light([np.array([0, 1])]) == [0.5]
    assert rewards_named(None, None) == []
