"""Guidance on the command line: led by the task's reward or one that is named; populations have one prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sepo import load
from sepo.cli import main
from sepo.cli.design_drawing import draw
from sepo.cli.design_options import Design
from sepo.cli.guiding import Opened
from sepo.diffusion.process import Absorbing
from sepo.models import as_denoiser, save_pretrained
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.oracles import load_oracle, oracle_named
from sepo.tasks import Measured
from tests.cli.conftest import TASK, TOY
from tests.cli.toy import LENGTH
from tests.oracles.fake_grelu import installed, write_checkpoint


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
    said = " ".join(capsys.readouterr().err.split())
    assert "sequences scored on the way" in said and ("of 8 particles effective on average" in said) == (
        "smc" in options
    )
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
    assert "reward_calls" not in plain and "effective_particles" not in plain
    effective = found["effective_particles"]
    assert 1 <= effective["least"] < effective["mean"] < effective["particles"] == 4
    assert main(["evaluate", str(pretrained), *task, *led, "--num", "6"]) == 1
    assert "6 samples are no populations of 4 particles" in capsys.readouterr().err


def test_a_value_is_learned_kept_and_opened_again(pretrained, capsys):
    """Rollouts that it is learned from are counted; those that it leads need no fills on the way."""
    led = ["--guidance", "svdd", "--guidance_kwargs.candidates", "4", "--steps", "6"]
    learn = [f"--guidance_kwargs.value_kwargs.{name}" for name in ("sequences", "updates", "batch", "kernel", "folder")]
    small = [word for pair in zip(learn, ("300", "60", "64", "3", "value"), strict=True) for word in pair]
    base = ["evaluate", str(pretrained), *TASK, "--bound_draws", "0", "--num", "48"]
    assert main([*base, *led, "--guidance_kwargs.value", "learned", *small, "--output", "learned.json"]) == 0
    assert "correlation" in capsys.readouterr().err
    assert main([*base, *led, "--guidance_kwargs.value", "value", "--output", "kept.json"]) == 0
    assert main([*base, "--steps", "6", "--output", "plain.json"]) == 0
    learned, kept, plain = (json.loads(Path(f"{name}.json").read_text()) for name in ("learned", "kept", "plain"))
    assert learned["reward"] == kept["reward"] > plain["reward"] + 0.2
    assert kept["reward_calls"] == 48 * 4 and learned["reward_calls"] == 300 + 48 * 4
    assert kept["network_evaluations"] == 48 * 6 < learned["network_evaluations"]

    def said(*words: str) -> str:
        assert main([*base, *led, *words]) == 1
        return " ".join(capsys.readouterr().err.split())

    value = "--guidance_kwargs.value"
    assert "holds no value.json" in said(value, "nowhere")
    assert "along 6 steps, and the sampler takes 5" in said(value, "value", "--steps", "5")
    assert "are of learning a value, and value='value'" in said(value, "value", f"{value}_kwargs.updates", "2")
    assert "value_kwargs holds 'update'" in said(value, "learned", f"{value}_kwargs.update", "2")


FREE = ("--guidance", "classifier_free")
WEIGHT, AWAY = "--guidance_kwargs.weight", "--guidance_kwargs.unconditional"


def saved(name: str, network: Any) -> str:
    size = network.config.vocab_size
    save_pretrained(as_denoiser(network, Absorbing(size, mask=size - 1), length=LENGTH), name)
    return name


@pytest.fixture
def darker(pretrained) -> str:
    """The pretrained model with more of the grey 2."""
    network: Any = load(pretrained).network
    with torch.no_grad():
        network.head.bias[2] += 1.0
    return saved("darker", network)


def test_a_second_model_leads_without_any_reward(pretrained, darker, capsys):
    assert main(["sample", darker, "--num", "64", "--output", "plain.npy"]) == 0
    assert main(["sample", str(pretrained), "--num", "64", "--output", "before.npy"]) == 0
    for weight in (-1, 0, 2):
        away = [*FREE, WEIGHT, str(weight), AWAY, str(pretrained), "--output", f"{weight}.npy"]
        capsys.readouterr()
        assert main(["sample", darker, "--num", "64", *away]) == 0
        said = capsys.readouterr().err
        assert f"{64 * 2 * LENGTH} network evaluations" in said and "scored on the way" not in said
    found = {name: np.load(f"{name}.npy") for name in ("plain", "before", "-1", "0", "2")}
    assert np.array_equal(found["-1"], found["before"]) and np.array_equal(found["0"], found["plain"])
    dark = {name: (tokens == 2).mean() for name, tokens in found.items()}
    assert dark["2"] > dark["plain"] + 0.15 > dark["before"] + 0.15


def test_its_evaluation_asks_the_reward_for_the_result_alone(pretrained, darker):
    away = [*FREE, WEIGHT, "2", AWAY, str(pretrained), "--num", "48", "--bound_draws", "0"]
    assert main(["evaluate", darker, *TASK, *away, "--output", "led.json"]) == 0
    assert main(["evaluate", darker, *TASK, *away[-4:], "--output", "plain.json"]) == 0
    plain, led = (json.loads(Path(f"{name}.json").read_text()) for name in ("plain", "led"))
    assert led["reward"] > plain["reward"] + 0.15 and led["reward_calls"] == 0
    assert led["network_evaluations"] == 2 * plain["network_evaluations"]


def test_without_a_second_model_the_prompt_is_masked(tmp_path):
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    network = Transformer(config)
    with torch.no_grad():
        network.head.weight.normal_(std=2.0)
    model = saved("random", network)
    rows = [
        {"tokens": [2, 1, 0, 0, 0, 0], "free": [False, False, *[True] * 4]},
        {"tokens": [0] * 6, "free": [True] * 6},
    ]
    rows[1] |= {"tokens": [0, 0, 0, 0, 1, 2], "free": [*[True] * 4, False, False]}
    Path("prompts.json").write_text(json.dumps(rows))
    for weight in ("0", "4"):
        words = ["--prompts", "prompts.json", "--num", "32", *FREE, WEIGHT, weight, "--output", f"{weight}.npy"]
        assert main(["sample", model, *words, "--steps", "4"]) == 0
    plain, led = np.load("0.npy"), np.load("4.npy")
    assert (led[:32, :2] == [2, 1]).all() and (led[32:, 4:] == [1, 2]).all()
    assert not np.array_equal(plain, led)


def test_the_condition_of_a_model_is_not_that_of_the_one_without(pretrained, monkeypatch):
    asked = {}

    def model_named(name, device, **options):
        asked.update(options, name=name, device=device)
        return load(pretrained)

    monkeypatch.setattr("sepo.cli.opening.model_named", model_named)
    told = {"condition": 1, "revision": "tuned", "dtype": "float32"}
    Opened("tuned", load(pretrained), told).without_condition("base")
    assert asked == {"name": "base", "device": "cpu", "dtype": "float32"}


def test_what_a_second_model_lacks_is_said(pretrained, finetuned, capsys):
    config = TransformerConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    wider = saved("wider", Transformer(config))

    def said(model, *words) -> str:
        assert main(["sample", str(model), "--num", "4", *FREE, *words]) == 1
        return " ".join(capsys.readouterr().err.split())

    assert "lacks 'weight'" in said(pretrained)
    assert "must be a number" in said(pretrained, WEIGHT, "much", AWAY, str(pretrained))
    assert "unconditional='wider': unconditional knows 5 ids and the policy 4" in said(
        pretrained, WEIGHT, "1", AWAY, wider
    )
    assert "unconditional=3: must be the folder or hub id" in said(pretrained, WEIGHT, "1", AWAY, "3")
    assert "asks no reward; leave --reward out" in said(
        pretrained, WEIGHT, "1", AWAY, str(pretrained), "--reward", f"{TOY}:light"
    )
    told = said(finetuned, WEIGHT, "1")
    assert "lacks 'unconditional', and there is no prompt" in told
    assert f"{str(pretrained)!r} is where this one comes from" in told
    assert "comes from" not in said(pretrained, WEIGHT, "1") + said(wider, WEIGHT, "1")


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
    plain, _ = draw(Design(data="table.csv", num=8), task, policy)
    led, costs = draw(Design(data="table.csv", num=8, guidance="best_of_n", guidance_kwargs={"n": 8}), task, policy)
    reward = task.oracle("reward")
    assert float(reward(torch.from_numpy(led)).mean()) > float(reward(torch.from_numpy(plain)).mean())
    assert costs["reward_calls"] == 8 * len(led) and "effective_sample_size" not in costs


def test_a_population_of_designs_says_how_many_particles_it_was_worth(measured):
    task = Measured("table.csv", sequence="seq", activity="act", oracles="oracles", hidden_size=8)
    policy, found = load("generator"), []
    for beta in (0.05, 1000.0):
        what = Design(data="table.csv", num=5, guidance="smc", guidance_kwargs={"particles": 4, "beta": beta})
        tokens, costs = draw(replace(what, design_steps=6), task, policy)
        assert len(tokens) == 20 and costs["network_evaluations"] == 20 * 6
        found.append(costs["effective_sample_size"])
    assert 1 <= found[0] < 3 and found[1] == pytest.approx(4, abs=1e-3)


def test_designs_move_away_from_the_generator_that_was_fine_tuned(measured):
    task = Measured("table.csv", sequence="seq", activity="act", oracles="oracles", hidden_size=8)
    tuned = load("generator")
    network: Any = tuned.network
    with torch.no_grad():
        network.final_conv[-1].bias[0] += 1.0
    words: dict[str, Any] = {"data": "table.csv", "num": 8, "output": "."}
    before, plain = (draw(Design(**words), task, each)[0] for each in (load("generator"), tuned))
    back, away = (
        draw(Design(**words, guidance="classifier_free", guidance_kwargs={"weight": weight}), task, tuned)[0]
        for weight in (-1, 3)
    )
    assert np.array_equal(back, before)
    assert (away == 0).mean() > (plain == 0).mean() + 0.15
    assert Design(generator="mine").base == "mine" and Design(output="runs/x").base == "runs/x/generator"


def test_blocks_are_sampled_by_name(pretrained):
    blocks = ["--sampler", "blocks", "--sampler_kwargs.block_length", "2", "--sampler_kwargs.blocks", "3"]
    assert main(["sample", str(pretrained), "--num", "4", *blocks, "--steps", "4", "--output", "x.npy"]) == 0
    assert np.load("x.npy").shape == (4, 6)
