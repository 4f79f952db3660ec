"""What holds for every task in the table: it can be sampled, rewarded, measured and drawn with a network of its own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.rollout import MaskedPath
from sepo.ops import Chance
from sepo.oracles import Ensemble, Fit, fit, read_measurements, save_oracle
from sepo.samplers import FirstHitting, roll
from sepo.tasks import TASKS, Digits, Enhancer, Measured, Task
from tests.oracles import fake_grelu
from tests.oracles.tables import write_table
from tests.tasks.drakes_files import write_files

BATCH = 3
OF_FILES = ("enhancer", "measured")
"""Tasks whose data are files of the user's."""
every_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(autouse=True)
def grelu(monkeypatch):
    fake_grelu.installed(monkeypatch)


@cache
def made(name: str) -> Task:
    if name == "measured":
        return measured(Path(mkdtemp()))
    if name == "enhancer":
        return Enhancer(str(write_files(Path(mkdtemp()))), top=0.05, draws=2, hidden_size=8, stacks=1, device="cpu")
    return Digits(trees=10) if name == "digits" else TASKS[name]()


def measured(folder: Path) -> Measured:
    """A small table, and oracles that have hardly looked at it."""
    table = str(write_table(folder / "table.csv", rows=120))
    columns = {"sequence": "seq", "activity": "act", "second": "second", "group": "chrom"}
    data = read_measurements(table, **columns)
    for seed, name in enumerate(("reward", "judge", "other")):
        save_oracle(Ensemble([fit(data, Fit(hidden_size=4, epochs=1, seed=seed))]), folder / name)
    return Measured(data=table, oracles=str(folder), hidden_size=8, **columns)


@cache
def sampled(name: str) -> tuple[list[np.ndarray | None], MaskedPath]:
    """Prompts as the trainer hands them on, and what an untrained network fills in."""
    torch.manual_seed(0)
    policy, rows = made(name).denoiser(), made(name).test_prompts()
    if rows is None:
        assert policy.length is not None
        canvas, prompts = Canvas.blank(BATCH, policy.length), [None] * BATCH
    else:
        canvas = Canvas(
            torch.tensor([row["tokens"] for row in rows[:BATCH]]), torch.tensor([r["free"] for r in rows[:BATCH]])
        )
        prompts = list(torch.where(canvas.free, -1, canvas.tokens).numpy())
    rollout = roll(FirstHitting(steps=4), policy, canvas, Chance.of(0, BATCH))
    assert isinstance(rollout, MaskedPath)
    return prompts, rollout


@every_task
def test_what_is_spelled_is_a_word_for_each_sample(name: str):
    _, rollout = sampled(name)
    words = made(name).spelled(list(rollout.x0.numpy()))
    assert (words is not None) == (name in ("measured", "enhancer"))
    assert words is None or [[*"ACGT"].index(letter) for letter in "".join(words)] == rollout.x0.flatten().tolist()


@every_task
def test_all_options_have_defaults_and_equal_options_give_equal_data(name: str):
    if name not in OF_FILES:
        assert TASKS[name]() == TASKS[name]()
    assert replace(made(name)).corpus() == made(name).corpus()  # type: ignore[type-var]


@every_task
def test_data_fits_the_network(name: str):
    task = made(name)
    policy = task.denoiser()
    tokens = torch.tensor([row["tokens"] for row in task.corpus()])
    assert tokens.shape[1] == policy.length
    assert int(tokens.max()) < policy.process.size - 1


@every_task
def test_heldout_rows_are_not_in_the_corpus(name: str):
    seen = {tuple(row["tokens"]) for row in made(name).corpus()}
    assert not seen & {tuple(row["tokens"]) for row in made(name).heldout() or []}


@every_task
def test_test_prompts_are_not_prompts_to_train_on(name: str):
    seen = {tuple(row["tokens"]) for row in made(name).prompts() or []}
    assert not seen & {tuple(row["tokens"]) for row in made(name).test_prompts() or []}


@every_task
def test_rewards_are_one_float_each_the_same_again_and_indifferent_to_order(name: str):
    prompts, rollout = sampled(name)
    completions, ids = list(rollout.x0.numpy()), [[0]] * BATCH
    rewards = made(name).reward(
        prompts=prompts, completions=completions, completion_ids=ids, another_column=[None] * BATCH
    )
    assert [type(value) for value in rewards] == [float] * BATCH
    assert made(name).reward(prompts[::-1], completions[::-1], ids) == rewards[::-1]


@every_task
def test_metrics_are_finite_floats(name: str):
    prompts, rollout = sampled(name)
    metrics = made(name).metrics(prompts=prompts, completions=list(rollout.x0.numpy()), another_column=[None] * BATCH)
    assert metrics
    assert all(type(value) is float and np.isfinite(value) for value in metrics.values())


@every_task
def test_finished_and_unfinished_samples_can_be_drawn(name: str):
    prompts, rollout = sampled(name)
    process = made(name).denoiser().process
    steps = torch.arange(rollout.steps).expand(BATCH, -1)
    film = made(name).draw(prompts, rollout.states(steps, process.mask).numpy())  # type: ignore[union-attr]
    last = made(name).draw(prompts, rollout.x0.numpy())
    if film is None:
        assert last is None and name in OF_FILES  # shown as text
        return
    assert last is not None
    assert film.tokens.shape[:2] == (BATCH, rollout.steps)
    assert last.tokens.shape[0] == BATCH
