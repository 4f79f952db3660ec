"""A run that was killed and resumed is the run that was not, bit for bit (on the CPU)."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from sepo.models.critic import CRITIC
from sepo.runs import RunFolder, completion_steps, read_completions
from sepo.training.checkpoint import last_complete
from tests.training.toys import clues, lines, ones, optimizer_state, same, text_policy, tokenizer, trainer, weights

ROOT = Path(__file__).parents[2]


class Killed(Exception):
    pass


class Kill(TrainerCallback):
    """Ends the run at the end of a step, before it is logged or saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Killed


def rollouts(folder: Path) -> list[tuple]:
    run = RunFolder(folder)
    tables = [read_completions(run, step) for step in completion_steps(run)]
    return [(table.step, table.prompts, table.completions, dict(table.rewards), table.advantages) for table in tables]


def same_run(first: Path, second: Path, step: int) -> None:
    """Weights, optimizer and scheduler, log lines and rollouts."""
    one, other = (folder / f"checkpoint-{step}" for folder in (first, second))
    for name in ("model.safetensors", *(path.name for path in one.glob(CRITIC))):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert same(optimizer_state(one), optimizer_state(other))
    assert torch.load(one / "scheduler.pt", weights_only=True) == torch.load(other / "scheduler.pt", weights_only=True)
    assert lines(first) == lines(second)
    assert rollouts(first) == rollouts(second) != []


CASES = {
    "without prompts": {},
    "with prompts": {"rows": 5},
    "epochs": {"rows": 5, "max_steps": -1, "num_train_epochs": 3},
    "accumulation": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
    "iterations": {"num_iterations": 3, "rows": 5},
    "several steps of a collection": {"num_iterations": 2, "steps_per_generation": 2, "logging_steps": 5},
    "fresh masks": {"reading": "fresh_masks", "num_iterations": 2},
    "synced reference": {"sync_ref_model": True, "ref_model_sync_steps": 2},
    "moving average": {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 0.2},
    "critic": {"use_critic": True, "num_iterations": 2, "cliprange_value": 0.05, "weight": "ppo"},
    "critic along the path": {"use_critic": True, "gae_lambda": 0.9, "whiten_advantages": True, "num_iterations": 3},
    "target of the KL": {"target_kl": 0.02, "kl_gain": 1.0, "num_iterations": 2},
    "elites": {"replay_kwargs": {"size": 5, "search": 3}, "num_iterations": 2},
    "elites alone": {"algorithm": "elite_replay", "states": 16, "beta": 0.0},
    "guided rollouts": {
        **{"algorithm": "elite_replay", "states": 16, "beta": 0.0, "num_iterations": 2, "sampling_steps": 4},
        **{"rollout_guidance": "svdd", "rollout_guidance_kwargs": {"candidates": 2}, "replay_kwargs": {"search": 3}},
    },
    "dropout": {"disable_dropout": False},
    "sparse log lines": {"logging_steps": 4, "num_iterations": 4},
}


def run_of(folder: Path, case: str, **more):
    options = {"max_steps": 9, "save_strategy": "steps", "save_steps": 3, "logging_steps": 2, "beta": 0.05} | CASES[
        case
    ]
    rows = options.pop("rows", None)
    return trainer(folder, rows=None if rows is None else clues(rows), **{**options, **more})


RARE = ("accumulation", "several steps of a collection", "dropout", "epochs", "with prompts")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in RARE else case for case in CASES]
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, case):
    whole = run_of(tmp_path / "whole", case)
    whole.train()
    step = random.Random(case).randint(4, 8)
    with pytest.raises(Killed):
        run_of(tmp_path / "killed", case, callbacks=[Kill(step)]).train()
    resumed = run_of(tmp_path / "killed", case)
    resumed.train(resume_from_checkpoint=True)
    assert same(weights(resumed.model), weights(whole.model))
    assert resumed.state.global_step == whole.state.global_step
    same_run(tmp_path / "whole", tmp_path / "killed", 9)


def test_text_prompts_and_extras_resume_as_well(tmp_path):
    words = tokenizer()

    def reward(completions, log_extra, log_metric, **columns):
        log_extra("words", [text.split() for text in completions])
        log_metric("longest", max(len(text.split()) for text in completions))
        return [float(len(text.split())) for text in completions]

    def made(folder, **more):
        rows = [{"prompt": "the cat"}, {"prompt": "a big red dog"}, {"prompt": "yes"}]
        options = {"processing_class": words, "max_completion_length": 3, "max_steps": 4, "num_iterations": 4}
        saving = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 4}
        return trainer(folder, text_policy(words), reward, rows, **options, **saving, **more)

    made(tmp_path / "whole").train()
    with pytest.raises(Killed):
        made(tmp_path / "killed", callbacks=[Kill(3)]).train()
    made(tmp_path / "killed").train(resume_from_checkpoint=True)
    same_run(tmp_path / "whole", tmp_path / "killed", 4)
    assert "longest" in lines(tmp_path / "killed")[0]


def test_an_earlier_checkpoint_can_be_chosen_and_what_came_later_is_dropped(tmp_path):
    run_of(tmp_path / "whole", "with prompts").train()
    again = run_of(tmp_path / "whole", "with prompts")
    before = lines(tmp_path / "whole")
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert lines(tmp_path / "whole") == before


def test_a_finished_run_stays_finished(tmp_path):
    for case in ("without prompts", "with prompts"):
        folder = tmp_path / case
        run_of(folder, case).train()
        before = lines(folder)
        again = run_of(folder, case)
        again.train(resume_from_checkpoint=True)
        assert again.state.global_step == 9
        assert same(weights(again.model), load_file(folder / "checkpoint-9" / "model.safetensors"))
        assert lines(folder) == before


def test_a_run_can_be_made_longer(tmp_path):
    run_of(tmp_path, "without prompts").train()
    longer = run_of(tmp_path, "without prompts", max_steps=12)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == 12
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [2, 4, 6, 8, 10, 12]


def test_a_checkpoint_that_was_being_written_is_passed_over_and_written_again(tmp_path):
    run_of(tmp_path / "whole", "with prompts").train()
    with pytest.raises(Killed):
        run_of(tmp_path / "killed", "with prompts", callbacks=[Kill(8)]).train()
    (tmp_path / "killed" / "checkpoint-6" / "trainer_state.json").write_text('{"best_global_step": null, "glo')
    assert last_complete(tmp_path / "killed") == tmp_path / "killed" / "checkpoint-3"
    run_of(tmp_path / "killed", "with prompts").train(resume_from_checkpoint=True)
    same_run(tmp_path / "whole", tmp_path / "killed", 9)


def test_a_reward_that_fails_costs_nothing_that_was_saved(tmp_path):
    asked = []

    def flaky(completions, **columns):
        asked.append(1)
        if len(asked) == 6:
            raise ConnectionError("the judge is away")
        return ones(completions)

    run_of(tmp_path / "whole", "with prompts", reward=_as_flaky).train()
    with pytest.raises(ValueError, match="the judge is away"):
        run_of(tmp_path / "killed", "with prompts", reward=flaky).train()
    run_of(tmp_path / "killed", "with prompts", reward=flaky).train(resume_from_checkpoint=True)
    one, other = (weights_of(tmp_path / name / "checkpoint-9") for name in ("whole", "killed"))
    assert one == other


def _as_flaky(completions, **columns):
    return ones(completions)


def weights_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


SCRIPT = """
import sys
from pathlib import Path
from tests.training.toys import trainer
run = trainer(Path(sys.argv[1]), max_steps=60, num_iterations=3, beta=0.05, save_strategy="steps", save_steps=4)
run.train(resume_from_checkpoint=len(sys.argv) > 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_process_killed_at_a_random_moment_is_resumed(tmp_path, seed):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT]
    subprocess.run([*command, str(whole)], cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen([*command, str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    step = random.Random(seed).randint(8, 50)
    while process.poll() is None and logged(killed) < step:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = last_complete(killed)
    assert process.returncode == -signal.SIGKILL and found is not None
    subprocess.run([*command, str(killed), "resume"], cwd=ROOT, check=True, capture_output=True)
    same_run(whole, killed, 60)


def logged(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0
