"""The stream: whose turn it is, in which order, and where it goes on after a resume."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sepo.training import ExperienceStream, Layout
from tests.training.toys import clues, trainer


def stream(folder: Path, rows: int | None = 4, seed: int = 42, shuffle: bool = True, **layout: int) -> ExperienceStream:
    """Of a trainer's collector, outside its trainer."""
    given = None if rows is None else clues(rows)
    collector = replace(trainer(folder, rows=given, seed=seed).collector, group=layout.get("group", 2))
    return ExperienceStream(collector, Layout(**{"micro": 4, "group": 2, **layout}), given, shuffle)


def answers(made: ExperienceStream, groups: range) -> list[int]:
    return [row["answer"] for row in made.rows(list(groups))]


def test_a_pass_over_the_prompts_holds_each_of_them_once(tmp_path):
    made = stream(tmp_path, rows=7)
    for turn in range(4):
        assert sorted(answers(made, range(7 * turn, 7 * turn + 7))) == list(range(7))


def test_in_the_long_run_all_prompts_appear_equally_often_even_if_they_do_not_fill_a_collection(tmp_path):
    made = stream(tmp_path, rows=7)
    assert len(made) == 4 * made.layout.batches  # 7 prompts in collections of 2
    counted = Counter(answers(made, range(7 * 2 * 4)))
    assert set(counted.values()) == {8}


def test_the_order_is_shuffled_reproducibly_and_anew_in_every_epoch(tmp_path):
    made, again = stream(tmp_path, rows=20), stream(tmp_path, rows=20)
    other = stream(tmp_path, rows=20, seed=1)
    first = answers(made, range(20))
    assert first == answers(again, range(20))
    assert first != list(range(20))
    assert first != answers(made, range(20, 40))
    assert first != answers(other, range(20))


def test_without_shuffling_the_order_is_that_of_the_dataset(tmp_path):
    assert answers(stream(tmp_path, rows=5, shuffle=False), range(7)) == [0, 1, 2, 3, 4, 0, 1]


def test_an_iteration_is_an_epoch_and_the_next_goes_on(tmp_path):
    made = stream(tmp_path, rows=4)
    seen = []
    made.on_collected = lambda collected: seen.append(collected.groups)
    assert len(list(made)) == len(made) == 2
    assert len(list(made)) == 2
    assert seen == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_without_prompts_it_is_endless_and_has_no_length(tmp_path):
    made = stream(tmp_path, rows=None)
    iterator = iter(made)
    assert all(next(iterator) is not None for _ in range(5))
    with pytest.raises(TypeError, match="no length"):
        len(made)


@pytest.mark.parametrize("rows", [None, 6])
@pytest.mark.parametrize("used", [1, 2, 4, 5, 7])
def test_a_restored_stream_yields_placeholders_for_what_was_used_and_then_the_same(tmp_path, rows, used):
    sizes = {"micro": 2, "per_collection": 2, "iterations": 2}
    made = stream(tmp_path, rows=rows, **sizes)
    whole = [next(iterator) for iterator in [iter(made)] for _ in range(10)]
    stopped = stream(tmp_path, rows=rows, **sizes)
    iterator = iter(stopped)
    for _ in range(used):
        next(iterator)
    position, tensors = stopped.state()
    resumed = stream(tmp_path, rows=rows, **sizes)
    resumed.restore(position, tensors)
    iterator = iter(resumed)
    again = [next(iterator) for _ in range(10)]
    assert again[:used] == [None] * used
    for mine, theirs in zip(again[used:], whole[used:], strict=True):
        expected = theirs.tensors()
        assert mine.tensors().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in mine.tensors().items())


def test_the_state_holds_no_experience_when_a_collection_is_used_up(tmp_path):
    made = stream(tmp_path, micro=2, per_collection=2)
    iterator = iter(made)
    next(iterator)
    assert made.state()[0]["pending"] == 2 and made.state()[1]
    next(iterator)
    assert made.state() == ({"collection": 1, "used": 0, "pending": 0}, {})


def test_restarted_it_begins_with_the_first_prompt_and_draws_the_same(tmp_path):
    made = stream(tmp_path, micro=2, per_collection=2)
    first = next(iter(made))
    made.restart()
    again = next(iter(made))
    assert torch.equal(first.views.target, again.views.target)


def test_the_stream_drives_a_bare_loop(tmp_path):
    run = trainer(tmp_path, learning_rate=0.05)
    policy, objective = run.policy, run.objective
    optimizer = torch.optim.Adam(policy.network.parameters(), lr=0.03)
    rewards = []
    run.stream.on_collected = lambda collected: rewards.append(collected.metrics["reward"])
    for step, experience in enumerate(run.stream):
        new = objective.read(policy, experience.views)
        loss = objective.loss(new, experience.old_reading(new), None, experience.credit, experience.views)
        loss.value.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 25:
            break
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.2
