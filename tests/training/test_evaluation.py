"""Evaluation: rewards of fresh sequences on rows that training does not see."""

from __future__ import annotations

import pytest

from tests.training.toys import clues, lines, ones, policy, raised, same, trainer, weights


def evaluations(folder):
    return [line for line in lines(folder) if "eval_reward" in line]


def test_it_runs_every_so_many_steps_and_changes_nothing(tmp_path):
    options = {"rows": clues(), "beta": 0.05}
    plain = trainer(tmp_path / "plain", **options)
    plain.train()
    watched = trainer(tmp_path / "watched", eval_dataset=clues(3), eval_strategy="steps", eval_steps=2, **options)
    watched.train()
    assert same(weights(plain.model), weights(watched.model))
    assert [line["step"] for line in evaluations(tmp_path / "watched")] == [2, 4]


def test_it_runs_every_epoch(tmp_path):
    rows, unseen = clues(4), clues(2)
    run = trainer(tmp_path, rows=rows, eval_dataset=unseen, eval_strategy="epoch", max_steps=-1, num_train_epochs=2)
    run.train()
    assert [line["epoch"] for line in evaluations(tmp_path)] == [1, 2]


def test_every_row_is_drawn_as_often_as_asked_for(tmp_path):
    seen = []

    def reward(completions, answer, **columns):
        seen.append(answer)
        return [float(value) for value in answer]

    run = trainer(
        tmp_path,
        rows=clues(),
        reward=reward,
        eval_dataset=clues(3),
        num_generations_eval=2,
        per_device_eval_batch_size=4,
    )
    metrics = run.evaluate()
    assert seen == [[0, 0, 1, 1], [2, 2]]
    assert metrics["eval_reward"] == metrics["eval_rewards/reward/mean"] == 1.0


def test_it_draws_the_same_every_time_and_nothing_that_training_draws(tmp_path):
    drawn = []

    def reward(completions, **columns):
        drawn.append([completion.tolist() for completion in completions])
        return ones(completions)

    run = trainer(tmp_path, rows=clues(1), reward=reward, eval_dataset=clues(1), num_generations_eval=8)
    run.evaluate()
    run.evaluate()
    run.collector.collect(run.stream.rows([0, 1]), [0, 1])
    assert drawn[0] == drawn[1] != drawn[2]


def test_rewards_of_none_are_left_out_of_the_mean(tmp_path):
    def reward(completions, **columns):
        return [None, 1.0, 2.0, None]

    metrics = trainer(tmp_path, rows=clues(), reward=reward, eval_dataset=clues(1)).evaluate()
    assert metrics["eval_reward"] == 1.5


def test_a_dictionary_of_datasets_is_evaluated_by_name(tmp_path):
    run = trainer(
        tmp_path,
        rows=clues(),
        eval_dataset={"easy": clues(1), "hard": clues(2)},
        eval_strategy="steps",
        eval_steps=4,
    )
    run.train()
    names = {name for line in lines(tmp_path) for name in line if name.startswith("eval_")}
    assert names == {f"eval_{part}_{what}" for part in ("easy", "hard") for what in ("reward", "rewards/ones/mean")}


def test_the_best_model_is_found_by_its_reward(tmp_path):
    run = trainer(
        tmp_path,
        rows=clues(),
        eval_dataset=clues(),
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        max_steps=6,
        load_best_model_at_end=True,
        metric_for_best_model="reward",
    )
    run.train()
    best = max(evaluations(tmp_path), key=lambda line: line["eval_reward"])
    assert run.state.best_global_step == best["step"]
    assert run.state.best_metric == best["eval_reward"]


def test_a_model_without_prompts_is_evaluated_on_rows_without_columns(tmp_path):
    run = trainer(tmp_path, eval_dataset=[{}] * 16, num_generations_eval=1)
    assert 0 < run.evaluate()["eval_reward"] < 1


@pytest.mark.parametrize("rows", [None, []])
def test_there_must_be_something_to_evaluate_on(tmp_path, rows):
    assert "pass an eval_dataset" in raised(ValueError, lambda: trainer(tmp_path, rows=clues()).evaluate(rows))


def test_rows_of_evaluation_are_checked_as_those_of_training_are(tmp_path):
    run = trainer(tmp_path, policy(), rows=clues())
    assert "they need 'prompt'" in raised(ValueError, lambda: run.evaluate([{"question": "?"}]))
