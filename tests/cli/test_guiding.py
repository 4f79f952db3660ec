"""Guidance on the command line: led by the task's reward or one that is named; populations have one prompt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo import load
from sepo.cli import main
from sepo.cli.design_options import Design
from sepo.cli.designs import designed
from sepo.models import save_pretrained
from sepo.oracles import Ensemble, load_oracle, oracle_named
from sepo.oracles.network import ConvOracle, ConvOracleConfig
from sepo.oracles.oracle import save_oracle
from sepo.tasks import Measured
from tests.cli.conftest import TASK, TOY
from tests.oracles.fake_grelu import installed, write_checkpoint
from tests.oracles.tables import write_table


@pytest.mark.parametrize(
    "options",
    [
        ["best_of_n", "--guidance_kwargs.n", "8"],
        ["svdd", "--guidance_kwargs.candidates", "8", "--steps", "6"],
        ["smc", "--guidance_kwargs.particles", "8", "--guidance_kwargs.beta", "0.05", "--steps", "6"],
    ],
    ids=lambda words: words[0],
)
def test_samples_are_led_by_the_reward_that_the_command_was_given(pretrained, options, capsys):
    base = ["sample", str(pretrained), "--num", "64"]
    assert main([*base, "--output", "plain.npy"]) == 0
    assert main([*base, *TASK, "--guidance", *options, "--output", "dark.npy"]) == 0
    assert "sequences scored on the way" in capsys.readouterr().err
    assert main([*base, "--reward", f"{TOY}:light", "--guidance", *options, "--output", "light.npy"]) == 0
    dark, plain, light = (np.load(f"{name}.npy") for name in ("dark", "plain", "light"))
    assert (dark == 2).mean() > (plain == 2).mean() + 0.15
    assert (light == 0).mean() > (plain == 0).mean() + 0.15


def test_prompts_of_a_population_stay_together_in_an_evaluation(pretrained, capsys):
    task = ["--task", f"{TOY}:Toy", "--task.prompted", "true", "--bound_draws", "0"]
    led = ["--guidance", "smc", "--guidance_kwargs.particles", "4", "--guidance_kwargs.beta", "0.05", "--steps", "6"]
    assert main(["evaluate", str(pretrained), *task, "--num", "48", "--output", "plain.json"]) == 0
    assert main(["evaluate", str(pretrained), *task, *led, "--num", "48", "--output", "led.json"]) == 0
    plain, found = (json.loads(Path(name).read_text()) for name in ("plain.json", "led.json"))
    assert found["reward"] > plain["reward"] + 0.1 and found["reward_calls"] == 48 * 6
    assert "reward_calls" not in plain
    assert main(["evaluate", str(pretrained), *task, *led, "--num", "6"]) == 1
    assert "6 samples are no populations of 4 particles" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--guidance", "svdd", "--guidance_kwargs.candidates", "2"], "has no reward to be led by"),
        (
            [*TASK, "--guidance", "classifier", "--guidance_kwargs.gamma", "1"],
            "follows the gradient of its reward, and this one has none",
        ),
        ([*TASK, "--guidance", "svdd"], "lacks 'candidates'"),
        (["--guidance_kwargs.candidates", "2"], "there is no guidance"),
        (["--reward", f"{TOY}:light"], "leads a guidance, and there is none"),
    ],
)
def test_what_is_missing_is_said(pretrained, words, message, capsys):
    assert main(["sample", str(pretrained), "--num", "4", *words]) == 1
    assert message in capsys.readouterr().err


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


@pytest.mark.parametrize(
    "options",
    [
        ["classifier", "--guidance_kwargs.gamma", "50"],
        ["tds", "--guidance_kwargs.particles", "8", "--guidance_kwargs.beta", "0.02"],
    ],
    ids=lambda words: words[0],
)
def test_an_oracle_with_a_gradient_leads_by_it(measured, options):
    base = ["sample", "generator", *measured, "--sampler", "ancestral", "--steps", "10", "--num", "32"]
    assert main([*base, "--output", "plain.npy"]) == 0
    assert main([*base, "--guidance", *options, "--output", "led.npy"]) == 0
    plain, led = (load_oracle("oracles/reward")(torch.from_numpy(np.load(f"{name}.npy"))) for name in ("plain", "led"))
    assert float(led.mean()) > float(plain.mean()) + float(plain.std())


OWN = """\
class Adenines:
    def __call__(self, words):
        return [float(word.count("A")) for word in words]

    def soft(self, onehot):
        return onehot[..., 0].sum(1)
"""


@pytest.mark.parametrize(("named", "gamma"), [("own.py:Adenines", "3"), ("grelu.ckpt:1", "3000")])
def test_an_oracle_from_outside_that_has_a_gradient_leads_by_it(measured, monkeypatch, named, gamma):
    installed(monkeypatch)
    write_checkpoint(Path("grelu.ckpt"))
    Path("own.py").write_text(OWN)
    words = [*measured, "--task.reward_oracle", named]
    base = ["sample", "generator", *words, "--sampler", "ancestral", "--steps", "10", "--num", "32"]
    assert main([*base, "--output", "plain.npy"]) == 0
    assert main([*base, "--guidance", "classifier", "--guidance_kwargs.gamma", gamma, "--output", "led.npy"]) == 0
    oracle = oracle_named(named, "ACGT")
    plain, led = (oracle(torch.from_numpy(np.load(f"{name}.npy"))) for name in ("plain", "led"))
    assert float(led.mean()) > float(plain.mean()) + float(plain.std())


def test_a_function_without_a_gradient_leads_by_none(measured, capsys):
    Path("own.py").write_text(OWN + "\ncount = Adenines().__call__\n")
    words = [*measured, "--task.reward_oracle", "own.py:count", "--guidance", "classifier"]
    assert main(["sample", "generator", *words, "--guidance_kwargs.gamma", "1", "--num", "4"]) == 1
    assert "this one has none" in capsys.readouterr().err


def test_designs_are_drawn_under_guidance(measured):
    task = Measured("table.csv", sequence="seq", activity="act", oracles="oracles", hidden_size=8)
    policy = load("generator")
    plain = designed(Design(data="table.csv", num=8), task, policy)
    led = designed(Design(data="table.csv", num=8, guidance="best_of_n", guidance_kwargs={"n": 8}), task, policy)
    assert float(led.columns["reward"].mean()) > float(plain.columns["reward"].mean())


def test_blocks_are_sampled_by_name(pretrained):
    blocks = ["--sampler", "blocks", "--sampler_kwargs.block_length", "2", "--sampler_kwargs.blocks", "3"]
    assert main(["sample", str(pretrained), "--num", "4", *blocks, "--steps", "4", "--output", "x.npy"]) == 0
    assert np.load("x.npy").shape == (4, 6)
