"""Ctrl-C: the first ends the run after the step, with a checkpoint; the second at once."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sepo.training.callbacks import StopOnInterrupt
from sepo.training.checkpoint import last_complete
from tests.training.toys import lines, ones, pretrainer, same, trainer, weights


def pressing(times: int, at: int):
    """A reward during whose call number `at` Ctrl-C is pressed."""
    asked = []

    def reward(completions, **columns):
        asked.append(1)
        if len(asked) == at:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return ones(completions)

    return reward


def test_the_first_saves_and_stops_after_the_step_in_progress(tmp_path):
    run = trainer(tmp_path, reward=pressing(1, at=2), max_steps=5)
    run.train()
    assert run.state.global_step == 2 and run.interrupt.interrupted
    assert last_complete(tmp_path) == tmp_path / "checkpoint-2"
    again = trainer(tmp_path, max_steps=5)
    again.train(resume_from_checkpoint=True)
    whole = trainer(tmp_path / "whole", max_steps=5)
    whole.train()
    assert same(weights(again.model), weights(whole.model))
    logged, expected = lines(tmp_path), lines(tmp_path / "whole")
    assert [line["step"] for line in logged] == [1, 2, 3, 4, 5, 5] and not again.interrupt.interrupted
    assert [line.get("loss") for line in logged] == [line.get("loss") for line in expected]


def test_the_second_ends_the_run_at_once(tmp_path):
    run = trainer(tmp_path, reward=pressing(2, at=2))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert run.state.global_step == 1 and last_complete(tmp_path) is None


def test_after_the_run_ctrl_c_means_what_it_meant_before(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run = trainer(tmp_path, reward=pressing(1, at=1))
    run.train()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, reward=pressing(2, at=1)).train()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_trainer_can_train_again(tmp_path):
    run = trainer(tmp_path, reward=pressing(1, at=1))
    run.train()
    run.train()
    assert run.state.global_step == 4


def test_in_another_thread_nobody_listens(tmp_path):
    run = trainer(tmp_path, max_steps=1)
    thread = threading.Thread(target=run.train)
    thread.start()
    thread.join()
    assert run.state.global_step == 1


def test_what_one_process_hears_all_of_them_obey():
    heard = StopOnInterrupt(any_process=lambda flag: True)
    control = TrainerControl()
    heard.on_step_end(TrainingArguments(use_cpu=True, report_to="none"), TrainerState(), control)
    assert control.should_save and control.should_training_stop and heard.interrupted


def test_pretraining_listens_too(tmp_path):
    run = pretrainer(tmp_path)
    collate = run.data_collator

    def pressed(rows):
        if run.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return collate(rows)

    run.data_collator = pressed
    run.train()
    assert run.state.global_step == 3 and last_complete(tmp_path) == tmp_path / "checkpoint-3"
