"""Training on the command line that a guidance leads, or the gradient of the task's reward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sepo.cli import main
from tests.cli.conftest import TASK, TOY

TRAINED = ("--max_steps", "8", "--per_device_train_batch_size", "8", "--num_generations", "8", "--use_cpu", "true")
TRAINING = (*TRAINED, "--judged", "32", "--learning_rate", "0.02", "--logging_steps", "4", "--sampling_steps", "4")


@pytest.mark.parametrize(
    "options",
    [
        ["svdd", "--rollout_guidance_kwargs.candidates", "4"],
        pytest.param(
            ["tds", "--rollout_guidance_kwargs.particles", "8", "--rollout_guidance_kwargs.beta", "0.02"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [
                "classifier_free",
                *("--rollout_guidance_kwargs.weight", "1"),
                *("--rollout_guidance_kwargs.unconditional", "generator"),
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda words: words[0],
)
def test_rollouts_are_led_by_the_reward_of_the_training(measured, options):
    words = ["finetune", "--model", "generator", *measured, *TRAINING, "--output_dir", "led"]
    assert main([*words, "--algorithm", "elite_replay", "--rollout_guidance", *options]) == 0
    told = [json.loads(line) for line in Path("led/metrics.jsonl").read_text().splitlines()]
    calls = [line["reward_calls"] for line in told if "reward_calls" in line]
    on_the_way = {"svdd": 4 * 4, "tds": 5, "classifier_free": 0}[options[0]]
    assert calls == [4 * 8 * (on_the_way + 1), 8 * 8 * (on_the_way + 1)]
    summary = json.loads(Path("led/summary.json").read_text())
    assert summary["path_kl"] > 0 and ("kl" in told[0]) is False
    assert f"rollout_guidance: {options[0]}" in Path("led/config.yaml").read_text()


def test_rollouts_that_cannot_be_led_are_told(measured, pretrained, capsys):
    def said(*words: str) -> str:
        assert main(["finetune", *TRAINING, "--output_dir", "led", *words]) == 1
        return " ".join(capsys.readouterr().err.split())

    toy = ("--model", str(pretrained), *TASK)
    svdd = ("--rollout_guidance", "svdd", "--rollout_guidance_kwargs.candidates", "4")
    assert "algorithm='sepo' takes ratios" in said(*toy, *svdd)
    classifier = ("--rollout_guidance", "classifier", "--rollout_guidance_kwargs.gamma", "2")
    led = said(*toy, "--algorithm", "elite_replay", *classifier)
    assert "rollout_guidance='classifier' follows the gradient" in led and "this one has none" in led
    away = ("--rollout_guidance", "classifier_free", "--rollout_guidance_kwargs.weight", "2")
    other = ("--rollout_guidance_kwargs.unconditional", "generator")
    assert "unconditional" in said(*toy, "--algorithm", "elite_replay", *away, *other)


def test_a_value_that_was_kept_leads_rollouts(pretrained, capsys):
    learn = ["--guidance_kwargs.value", "learned", "--guidance_kwargs.value_kwargs.folder", "value"]
    learn += ["--guidance_kwargs.value_kwargs.sequences", "40", "--guidance_kwargs.value_kwargs.updates", "4"]
    svdd = ["--guidance", "svdd", "--guidance_kwargs.candidates", "3"]
    assert main(["sample", str(pretrained), *TASK, *svdd, *learn, "--steps", "4", "--num", "4"]) == 0
    led = ["--algorithm", "elite_replay", "--rollout_guidance", "svdd", "--rollout_guidance_kwargs.candidates", "3"]
    words = ["finetune", "--model", str(pretrained), *TASK, *TRAINING, *led, "--output_dir", "led"]
    assert main([*words, "--rollout_guidance_kwargs.value", "value"]) == 0
    told = [json.loads(line) for line in Path("led/metrics.jsonl").read_text().splitlines()]
    assert [line["reward_calls"] for line in told if "reward_calls" in line] == [4 * 8 * 4, 8 * 8 * 4]
    assert main([*words, "--rollout_guidance_kwargs.value", "learned"]) == 1
    assert "would be of a policy that changes" in " ".join(capsys.readouterr().err.split())


def test_drakes_follows_the_gradient_of_the_task(measured, pretrained, capsys):
    words = ["finetune", "--model", "generator", *measured, *TRAINING, "--algorithm", "drakes", "--output_dir", "soft"]
    assert main([*words, "--algorithm_kwargs.truncate", "3", "--algorithm_kwargs.alpha", "0.0"]) == 0
    summary = json.loads(Path("soft/summary.json").read_text())
    assert summary["reward_after"] > summary["reward_before"] + 1
    told = [json.loads(line) for line in Path("soft/metrics.jsonl").read_text().splitlines()]
    assert "soft_reward" in told[0]
    assert "drakes" in Path("soft/README.md").read_text()
    base = ["finetune", *TRAINING, "--algorithm", "drakes", "--output_dir", "none"]
    for more in (["--model", str(pretrained), *TASK], ["--model", "generator", *measured, "--reward", f"{TOY}:light"]):
        assert main([*base, *more]) == 1
        assert "algorithm='drakes' follows the gradient of its reward, and this one has none" in " ".join(
            capsys.readouterr().err.split()
        )
    assert main([*words, "--algorithm_kwargs.alhpa", "1"]) == 1
    assert "holds 'alhpa', which drakes does not have; its options are truncate, alpha" in " ".join(
        capsys.readouterr().err.split()
    )
