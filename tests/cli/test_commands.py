"""Every command from end to end, on a toy task."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import TrainerCallback

from sepo import load
from sepo.cli import finetune, main
from sepo.runs import RunFolder, read_metrics
from tests.cli.conftest import FEW, SMALL, TASK, TOY


def test_pretrain_leaves_a_model_its_bound_and_a_recipe_that_repeats_it(pretrained, capsys):
    assert load(pretrained).length == 6
    summary = json.loads((pretrained / "summary.json").read_text())
    assert summary["steps"] == 2 and 0.9 < summary["held_out_bound"] < 1.4 and summary["pretrain_seconds"] > 0
    assert (pretrained / "report.html").is_file()
    assert main(["pretrain", str(pretrained / "config.yaml"), "--output_dir", "again"]) == 0
    assert f"held-out bound {summary['held_out_bound']:.3f} nats per token" in capsys.readouterr().err
    first, again = (folder / "model.safetensors" for folder in (pretrained, Path("again")))
    assert first.read_bytes() == again.read_bytes()


def test_pretrain_resumes_from_the_last_checkpoint(pretrained):
    words = ["pretrain", str(pretrained / "config.yaml"), "--output_dir", "run", "--save_steps", "1"]
    assert main([*words, "--max_steps", "1", "--lr_scheduler_type", "constant"]) == 0
    assert main([*words, "--max_steps", "2", "--lr_scheduler_type", "constant", "--resume"]) == 0
    steps = [line["step"] for line in read_metrics(RunFolder(Path("run"))) if "loss" in line]
    assert steps == [1, 2]


def test_pretrain_makes_a_fresh_network_for_a_dataset():
    rows = [{"tokens": [0, 1, 2, 0]}, {"tokens": [2, 1, 0, 2]}]
    Path("rows.json").write_text(json.dumps(rows))
    network = ["--network.family", "transformer", "--network.vocab_size", "4", "--network.hidden_size", "8"]
    words = ["pretrain", "--dataset", "rows.json", *network, *SMALL, "--output_dir", "out"]
    assert main(words) == 0
    policy = load("out")
    assert (policy.process.size, policy.length) == (4, 4)
    assert main([*words[:3], "--model", "out", *SMALL, "--output_dir", "further", "--eval_dataset", "rows.json"]) == 0
    assert "held_out_bound" in json.loads(Path("further/summary.json").read_text())


def test_finetune_leaves_a_model_figures_a_report_and_a_recipe(finetuned):
    assert load(finetuned).length == 6
    summary = json.loads((finetuned / "summary.json").read_text())
    assert list(summary)[:2] == ["reward_before", "reward_after"]
    assert {"light", "light_before", "path_kl", "network_evaluations", "finetune_seconds"} <= summary.keys()
    config = yaml.safe_load((finetuned / "config.yaml").read_text())
    assert (config["beta"], config["max_steps"], config["task"]) == (0.1, 2, f"{TOY}:Toy")
    page = (finetuned / "report.html").read_text()
    for title in ("Samples before and after", "The fine-tuned model at work", "Along training", "Verdict", "Settings"):
        assert title in page


def test_finetune_logs_the_metrics_that_the_reward_does_not_see(finetuned):
    lines = [line for line in read_metrics(RunFolder(finetuned)) if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["light/first"] == 0.5 and 0 <= line["light"] <= 1 for line in lines)


def test_judging_is_no_part_of_the_evaluations_of_training(finetuned):
    summary = json.loads((finetuned / "summary.json").read_text())
    rollouts = reference = 2 * 8 * 6
    read = 2 * 8 * 6
    assert summary["network_evaluations"] == rollouts + reference + read


def test_finetune_repeated_from_its_own_recipe_gives_the_same_weights(finetuned):
    assert main(["finetune", str(finetuned / "config.yaml"), "--output_dir", "again"]) == 0
    assert Path("again/model.safetensors").read_bytes() == (finetuned / "model.safetensors").read_bytes()


def test_finetune_resumed_gives_the_same_weights_as_uninterrupted(finetuned):
    words = ["finetune", str(finetuned / "config.yaml"), "--output_dir", "run", "--lr_scheduler_type", "constant"]
    assert main([*words[:2], *words[4:], "--output_dir", "whole"]) == 0
    assert main([*words, "--max_steps", "1"]) == 0
    assert main([*words, "--resume"]) == 0
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_finetune_takes_several_rewards_and_a_dataset_with_columns(pretrained):
    rows = [{"tokens": [0, 1, 2, 0, 1, 2], "free": [False, True, True, True, True, True], "weight": 1.0}] * 3
    Path("rows.json").write_text(json.dumps(rows))
    words = ["--reward", f"{TOY}:light", f"{TOY}:ink", "--reward_weights", "1", "0.5", "--dataset", "rows.json"]
    assert main(["finetune", "--model", str(pretrained), *words, *FEW[:-2], "--output_dir", "out"]) == 0
    line = read_metrics(RunFolder(Path("out")))[0]
    assert {"rewards/light/mean", "rewards/ink/mean"} <= line.keys()
    assert "reward_after" in json.loads(Path("out/summary.json").read_text())


def test_finetune_judges_a_conditional_task_on_its_unseen_prompts(pretrained):
    words = ["--model", str(pretrained), "--task.prompted", "true", "--output_dir", "out"]
    assert main(["finetune", *TASK, *FEW, *words]) == 0
    assert "reward_before" in json.loads(Path("out/summary.json").read_text())


def test_finetune_is_compared_with_the_reference_that_is_named(pretrained, finetuned):
    words = ["--model", str(finetuned), "--reference", str(pretrained), "--beta", "0.1", "--learning_rate", "0"]
    assert main(["finetune", *TASK, *FEW, *words, "--output_dir", "out"]) == 0
    found, before = (json.loads((folder / "summary.json").read_text()) for folder in (Path("out"), finetuned))
    assert found["path_kl"] == pytest.approx(before["path_kl"], rel=1e-5)  # nothing was learned since
    assert found["light_before"] == before["light_before"] and found["light"] == before["light"]
    logged = [line["kl"] for line in read_metrics(RunFolder(Path("out"))) if "kl" in line]
    assert logged[0] != 0  # to itself it is 0 at first, exactly


def test_finetune_trains_adapters(pretrained):
    pytest.importorskip("peft")
    words = ["--model", str(pretrained), "--peft.r", "2", "--beta", "0.1", "--output_dir", "out", "--judged", "0"]
    assert main(["finetune", *TASK, *FEW[:-2], *words]) == 0
    assert Path("out/adapter_config.json").is_file()
    assert load("out").length == 6


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([*TASK], 2, "There is no model to fine-tune: name its folder or hub id with --model."),
        (["--model", "MODEL"], 2, "There is no reward: name one with --reward package.module:function, or a --task."),
        (["--model", "MODEL", *TASK, "--peft.rr", "2"], 1, "the options are those of peft.LoraConfig"),
        (["--model", "MODEL", *TASK, "--reference", "nowhere"], 1, "reference='nowhere': "),
        (["--model", "MODEL", *TASK, "--reference", "MODEL", "--sync_ref_model", "true"], 1, "drop one"),
        (["--model", "MODEL", *TASK, "--resume"], 1, "There is no complete checkpoint in runs/finetune to resume from"),
        (["--model", "MODEL", *TASK, "--max_steps", "-1"], 1, "set max_steps"),
        (["--model", "MODEL", "--reward", f"{TOY}:broken"], 1, "ZeroDivisionError"),
        (["--model", "MODEL", "--reward", f"{TOY}:broken"], 1, "toy.py, line "),
        (["--model", "MODEL", "--reward", f"{TOY}:broken", "--fsdp", "full_shard"], 1, "fsdp"),
        (["--model", "runs/digits_pretrain", *TASK], 1, "`sepo pretrain digits` makes it."),
    ],
)
def test_a_mistake_in_finetune_is_told(pretrained, capsys, words, code, message):
    words = [str(pretrained) if word == "MODEL" else word for word in words]
    assert main(["finetune", *FEW, *words]) == code
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(pretrained, monkeypatch, capsys):
    build = finetune.trainer_for

    def interrupted(*args):
        trainer = build(*args)
        trainer.add_callback(PressCtrlC())
        return trainer

    monkeypatch.setattr(finetune, "trainer_for", interrupted)
    words = ["finetune", *TASK, *FEW, "--model", str(pretrained), "--output_dir", "run", "--max_steps", "5"]
    assert main(words) == 130
    assert "Stopped by Ctrl-C after step 2, with a checkpoint; go on with --resume." in capsys.readouterr().err
    assert Path("run/checkpoint-2/trainer_state.json").is_file()


class PressCtrlC(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_sample_prints_a_line_per_sample_and_counts_evaluations(pretrained, capsys):
    assert main(["sample", str(pretrained), "--num", "3", "--steps", "2", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 3 and all(len(line.split()) == 6 and set(line.split()) <= set("012") for line in lines)
    assert "3 samples in " in shown.err and "6 network evaluations (2 per sample)" in shown.err


def test_sample_writes_every_kind_of_file_with_the_same_samples(pretrained):
    common = ["sample", "--model", str(pretrained), "--num", "5", "--seed", "3", "--output"]
    for name in ("a.npy", "a.jsonl", "a.txt"):
        assert main([*common, name]) == 0
    assert main([*common, "b.npy", "--batch_size", "2"]) == 0
    assert main([*common, "a.png", *TASK]) == 0
    tokens = np.load("a.npy")
    assert tokens.shape == (5, 6)
    assert (np.load("b.npy") == tokens).all()
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in rows] == tokens.tolist()
    assert Path("a.txt").read_text().split() == [str(token) for token in tokens.ravel()]
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_sample_keeps_what_a_prompt_gives(pretrained):
    Path("p.json").write_text(json.dumps([{"tokens": [2, 2, 0, 0, 0, 0], "free": [False, False, *[True] * 4]}]))
    words = ["--prompts", "p.json", "--num", "4", "--sampler", "ancestral", "--steps", "8", "--output", "a.npy"]
    assert main(["sample", str(pretrained), *words]) == 0
    tokens = np.load("a.npy")
    assert tokens.shape == (4, 6) and (tokens[:, :2] == 2).all()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "There is no model to sample from"),
        (["MODEL", "--output", "a.gif"], 2, "choose one of the endings .jsonl, .npy, .txt, .fasta, .png."),
        (["MODEL", "--output", "a.png"], 2, "a picture needs a task that draws"),
        (
            ["MODEL", "--sampler", "best"],
            1,
            "sampler='best': choose one of first_hitting, left_to_right, ancestral,",
        ),
        (["MODEL", "--device", "tpu"], 1, "device='tpu': torch sees cpu"),
        (["MODEL", "--num", "0"], 1, "num=0: must be at least 1."),
        (["MODEL", "--prompts", "Once upon"], 1, "there is no tokenizer"),
        (["MODEL", "--length", "9999"], 1, "9999"),
        (["."], 1, "is not a checkpoint"),
    ],
)
def test_a_mistake_in_sample_is_told(pretrained, capsys, words, code, message):
    assert main(["sample", *(str(pretrained) if word == "MODEL" else word for word in words)]) == code
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown


def test_evaluate_prints_and_writes_the_same_json(pretrained, finetuned, capsys):
    words = ["--num", "8", "--bound_draws", "1", "--reference", str(pretrained), "--output", "found.json"]
    assert main(["evaluate", str(finetuned), *TASK, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads(Path("found.json").read_text()) == found
    assert {"reward", "light", "path_kl", "network_evaluations"} <= found.keys()
    assert found["held_out_bound"]["sequences"] == 4 and found["samples"] == 8


def test_evaluate_takes_rewards_and_data_without_a_task(pretrained, capsys):
    Path("rows.json").write_text(json.dumps([{"tokens": [0, 1, 2, 0, 1, 2]}]))
    words = ["--reward", f"{TOY}:light", f"{TOY}:ink", "--heldout", "rows.json", "--num", "4", "--output", "found.json"]
    assert main(["evaluate", "--model", str(pretrained), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rewards"].keys() == {"light", "ink"} and found["held_out_bound"]["tokens"] == 6


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "There is no model to evaluate"),
        (["MODEL"], 2, "There is nothing to measure"),
        (["MODEL", *TASK, "--num", "0"], 1, "num=0: must be at least 1."),
    ],
)
def test_a_mistake_in_evaluate_is_told(pretrained, capsys, words, code, message):
    assert main(["evaluate", *(str(pretrained) if word == "MODEL" else word for word in words)]) == code
    assert message in capsys.readouterr().err


def test_report_draws_the_same_page_again_from_the_files(finetuned, capsys):
    page = (finetuned / "report.html").read_text()
    (finetuned / "report.html").unlink()
    assert main(["report", str(finetuned)]) == 0
    assert capsys.readouterr().out.strip() == str(finetuned / "report.html")
    assert (finetuned / "report.html").read_text() == page
    assert main(["report"]) == 2
