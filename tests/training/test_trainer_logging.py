"""What a run tells of itself: callbacks, integrations, completions, log lines and settings."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from sepo.runs import RunFolder, completion_steps, read_completions
from tests.training.toys import CLOCK, clues, lines, trainer, twos


@dataclass
class Recorder(TrainerCallback):
    events: list[str] = field(default_factory=list)

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append("begin")

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append(f"step {state.global_step}")
        control.should_training_stop = state.global_step == 2

    def on_log(self, args, state, control, logs, **kwargs):
        self.events.append("summary" if "train_loss" in logs else f"reward {logs['reward']:.0f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append("end")


def test_callbacks_see_and_steer_the_run(tmp_path):
    recorder = Recorder()
    trainer(tmp_path, reward=twos, callbacks=[recorder]).train()
    assert recorder.events == ["begin", "step 1", "reward 2", "step 2", "reward 2", "summary", "end"]


def test_integrations_that_report_get_every_log_line(tmp_path, monkeypatch):
    reported = []

    class Board(TrainerCallback):
        def on_log(self, args, state, control, logs, **kwargs):
            reported.append(logs)

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "board", Board)
    trainer(tmp_path, report_to=["board"], max_steps=2).train()
    assert [logs["reward"] for logs in reported[:2]] == [line["reward"] for line in lines(tmp_path)[:2]]
    trainer(tmp_path, max_steps=1).train()
    assert len(reported) == 3


def test_completions_are_kept_as_parquet(tmp_path):
    pytest.importorskip("pyarrow")

    def reward(completions, answer, log_extra, **columns):
        log_extra("twice", [2 * value for value in answer])
        return [None if value == 0 else float(value) for value in answer]

    trainer(tmp_path, rows=clues(), reward=reward, shuffle_dataset=False, logging_steps=2).train()
    folder = RunFolder(tmp_path)
    assert completion_steps(folder) == [2, 4]
    table = read_completions(folder, 2)  # prompts 2 and 3
    assert len(table) == 8 and table.prompts[0] == [2, 1, -1, -1, -1, -1]
    assert table.rewards["reward"] == [2.0] * 4 + [3.0] * 4 and table.extras["twice"] == [4] * 4 + [6] * 4
    assert table.advantages == [0.0] * 8
    assert read_completions(folder, 4).step == 4


def test_completions_are_shown_when_they_are_asked_for(tmp_path, capsys):
    trainer(tmp_path, max_steps=1, log_completions=True, num_completions_to_print=2, save_completions=False).train()
    shown = capsys.readouterr().out
    assert "Completion" in shown and "ones" in shown and "Step 1" in shown
    assert not (tmp_path / "completions").exists()


def test_log_lines_hold_the_names_of_trl_and_the_cost(tmp_path):
    trainer(tmp_path, beta=0.05).train()
    logged = lines(tmp_path, clock=True)
    assert {
        *("loss", "grad_norm", "learning_rate", "epoch", "step", "step_time"),
        *("reward", "reward_std", "rewards/ones/mean", "rewards/ones/std", "frac_reward_zero_std", "kl", "entropy"),
        *("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "completions/mean_length"),
        *("network_evaluations", "network_evaluations_with_gradient"),
    } <= set(logged[0])
    # per step 8 sequences: 6 states sampled, 6 read by the reference, 2 with gradient
    assert [line["network_evaluations"] for line in logged[:2]] == [8 * 14, 2 * 8 * 14]
    assert [line["network_evaluations_with_gradient"] for line in logged[:2]] == [8 * 2, 2 * 8 * 2]
    assert set(CLOCK) <= set(logged[0]) | set(logged[-1])


def test_the_settings_are_kept_in_the_folder(tmp_path):
    from sepo.runs import read_config

    trainer(tmp_path, beta=0.05, max_steps=1).train()
    settings = read_config(RunFolder(tmp_path))
    assert settings["beta"] == 0.05 and settings["num_generations"] == 4
