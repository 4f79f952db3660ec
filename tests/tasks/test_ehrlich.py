"""Ehrlich functions: the authors' values, the definition word for word, and what the task makes of them.

ehrlich_holo.json says how it was made.
"""

from __future__ import annotations

import json
from importlib import import_module
from itertools import pairwise
from math import inf, log
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sepo.cli.naming import task_named
from sepo.tasks import EhrlichTask
from sepo.tasks.ehrlich_function import Ehrlich

few = settings(deadline=None, derandomize=True, max_examples=30, database=None)
FROZEN = json.loads((Path(__file__).parent / "ehrlich_holo.json").read_text())["functions"]


def tokens(*written: str) -> torch.Tensor:
    return torch.tensor([[ord(letter) - 48 for letter in sequence] for sequence in written])


def near(function: Ehrlich, seed: int, n: int = 50) -> torch.Tensor:
    """Sequences of the chain and near the optimum, some of them spoilt."""
    chance = torch.Generator().manual_seed(seed)
    found = torch.cat([function.sample(n, seed), function.optimal().expand(n, -1)])
    redrawn = torch.rand(found.shape, generator=chance) < 0.05
    return torch.where(redrawn, torch.randint(function.num_states, found.shape, generator=chance), found)


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda frozen: str(frozen["options"]))
def test_the_function_of_a_seed_and_its_values_are_those_of_the_authors(frozen: dict[str, Any]):
    function = Ehrlich(**frozen["options"])
    assert function.instance.motifs.tolist() == frozen["motifs"]
    assert function.instance.spacings.tolist() == frozen["spacings"]
    assert function.instance.transition[0].tolist() == pytest.approx(frozen["transition"], abs=1e-6)
    assert torch.equal(function.optimal(), tokens(frozen["optimal"])[0])
    assert torch.equal(function.initial(), tokens(frozen["initial"]))
    values = [-inf if value is None else value for value in frozen["values"]]
    assert len(values) == 200 and function(tokens(*frozen["sequences"])).tolist() == values


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options", [(32, 32, 4, 4), (32, 32, 4, 4, 2), (12, 40, 3, 6, 3, 0.7), (4, 9, 2, 3, None, 2.0)]
)
def test_it_is_the_function_of_the_package_where_that_is_installed(options: tuple, seed: int):
    holo = pytest.importorskip("holo.test_functions.closed_form")
    theirs, ours = holo.Ehrlich(*options, random_seed=seed), Ehrlich(*options, random_seed=seed)  # type: ignore[misc]
    assert torch.equal(theirs.transition_matrix, ours.instance.transition)
    assert torch.equal(theirs.stationary_dist.squeeze(-1), ours.instance.stationary)
    sequences = near(ours, seed)
    assert torch.equal(theirs(sequences), ours(sequences))
    assert torch.equal(theirs.optimal_solution(), ours.optimal())
    assert torch.equal(theirs.initial_solution(5), ours.initial(5))


@st.composite
def functions(draw: st.DrawFn) -> Ehrlich:
    motifs, letters = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    levels = draw(st.sampled_from([None, *(each for each in range(1, letters + 1) if letters % each == 0)]))
    dim = motifs * letters + draw(st.integers(0, 12))
    epistasis = draw(st.floats(0, 4))
    return Ehrlich(draw(st.integers(3, 12)), dim, motifs, letters, levels, epistasis, draw(st.integers(0, 2**31)))


def by_definition(function: Ehrlich, x: list[int]) -> float:
    """The formula, word for word."""
    transition, value = function.instance.transition, 1.0
    if any(transition[a, b] == 0 for a, b in pairwise(x)):
        return -inf
    levels = function.quantization or function.motif_length
    for motif, gaps in zip(function.instance.motifs.tolist(), function.instance.spacings.tolist(), strict=True):
        places = [sum(gaps[:j]) for j in range(len(motif))]
        starts = range(function.dim - places[-1])
        right = max(sum(x[start + at] == a for at, a in zip(places, motif, strict=True)) for start in starts)
        h = levels * right // len(motif) / levels
        value *= h * (1 + function.epistasis_factor * h * (h - 1))
    return value


@few
@given(functions(), st.integers(0, 1000))
def test_values_are_what_the_definition_says(function: Ehrlich, seed: int):
    sequences = near(function, seed, 5)
    expected = [by_definition(function, each) for each in sequences.tolist()]
    assert function(sequences).tolist() == pytest.approx(expected, abs=1e-5)


@few
@given(functions())
def test_the_optimum_is_worth_one_and_nothing_is_worth_more(function: Ehrlich):
    assert function(function.optimal().unsqueeze(0)).tolist() == [1.0]
    values = function(near(function, 0, 20))
    assert values.max() <= 1
    assert (values[values > 0] >= function.smallest * (1 - 1e-5)).all()


@few
@given(functions(), st.integers(0, 1000))
def test_samples_of_the_chain_are_feasible_and_follow_from_their_seed(function: Ehrlich, seed: int):
    sequences = function.sample(8, seed)
    assert sequences.shape == (8, function.dim) and function.feasible(sequences).all()
    assert torch.equal(sequences, function.sample(8, seed))


def test_one_banned_step_makes_a_sequence_infeasible_wherever_it_is():
    function = Ehrlich(32, 32, 4, 4)
    before, after = (~function.allowed).nonzero()[0].tolist()
    assert function.allowed.diagonal().all()
    for place in (0, 15, 30):
        spoilt = torch.full((1, 32), before)
        spoilt[0, place + 1 :] = after
        assert function(spoilt).tolist() == [-inf] and not function.feasible(spoilt).any()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"num_states": 2}, "num_states=2"),
        ({"motif_length": 1}, "motif_length=1"),
        ({"num_motifs": 3}, "dim=7: 3 motifs of 3"),
        ({"quantization": 4}, "quantization=4"),
        ({"dim": 9, "motif_length": 5, "quantization": 2}, "levels of 3 letters"),
        ({"epistasis_factor": 5.0}, "epistasis_factor=5.0"),
    ],
)
def test_a_function_that_cannot_be_is_refused_by_name(options: dict[str, Any], name: str):
    with pytest.raises(ValueError, match=name):
        Ehrlich(**options)


def test_sequences_of_another_length_or_alphabet_are_refused():
    with pytest.raises(ValueError, match=r"6 tokens.*dim=7"):
        Ehrlich()(torch.zeros(1, 6, dtype=torch.long))
    with pytest.raises(ValueError, match="tokens 5 to 5: the states are 0 to 4"):
        Ehrlich().feasible(torch.full((1, 7), 5))


def graded(task: EhrlichTask) -> list[np.ndarray]:
    """A sequence of value 1, two of less but above 0, one infeasible."""
    best, chain = task.function.optimal(), task.function.sample(500, 9)
    values = task.function(chain)
    low = chain[values == values[values > 0].min()][0]
    spoilt = low.clone()
    spoilt[:2] = (~task.function.allowed).nonzero()[0]
    return [each.numpy() for each in (best, chain[values.argmax()], low, spoilt)]


@pytest.mark.parametrize("transform", ["none", "log", "rank"])
def test_a_better_sequence_is_worth_more_and_an_infeasible_one_what_was_asked(transform: str):
    task = EhrlichTask(transform=transform, infeasible=-0.25)
    rewards = task.reward([None] * 4, graded(task), [[]] * 4)
    assert 1 >= rewards[0] > rewards[1] > rewards[2] > 0 and rewards[3] == -0.25
    if transform != "rank":
        assert rewards[0] == 1 and rewards[:1] == task.reward([None], graded(task)[:1], [[]])


def test_the_transforms_are_the_documented_ones():
    values = EhrlichTask().values(graded(EhrlichTask())).double()
    assert EhrlichTask().reward([None] * 4, graded(EhrlichTask()), [[]] * 4) == [*values[:3].tolist(), 0.0]
    task = EhrlichTask(transform="log")
    assert task.function.smallest == 4.0**-4
    expected = [log(1 + 256 * value) / log(257) for value in values[:3].tolist()]
    assert task.reward([None] * 4, graded(task), [[]] * 4) == pytest.approx([*expected, 0.0])
    task = EhrlichTask(transform="rank")
    best, second, low, spoilt = graded(task)
    rewards = task.reward([None] * 5, [best, second, second, low, spoilt], [[]] * 5)
    assert rewards == pytest.approx([0.9, 0.6, 0.6, 0.3, 0.0])


def test_metrics_count_infeasible_sequences_as_nothing():
    task = EhrlichTask()
    best, second, low, spoilt = graded(task)
    values = task.values([best, second, low])
    found = task.metrics([None] * 5, [best, second, low, spoilt, spoilt])
    assert found == pytest.approx(
        {
            "value_best": 1.0,
            "value_mean": float(values.sum()) / 5,
            "feasible": 0.6,
            "distinct_fraction": 0.8,
            "number_solved": 1.0,
        }
    )
    assert task.metrics([None], [spoilt])["value_best"] == 0


def test_data_are_feasible_and_the_same_for_all_motifs_of_a_chain():
    task = EhrlichTask(trained=40, held=10)
    assert task.function.feasible(torch.tensor([row["tokens"] for row in task.corpus()])).all()
    assert len(task.heldout() or []) == 10
    assert EhrlichTask(num_motifs=2, quantization=2, trained=40, held=10).corpus() == task.corpus()
    assert EhrlichTask(trained=40, held=10, seed=1).corpus() != task.corpus()
    assert EhrlichTask(num_states=3, dim=3, num_motifs=1, motif_length=2, trained=1000, held=5).heldout() is None


def test_the_command_line_sets_its_options():
    task = task_named({"class_path": "ehrlich", "init_args": {"num_motifs": "2", "transform": "log"}})
    assert task == EhrlichTask(num_motifs=2, transform="log")
    with pytest.raises(ValueError, match="transform"):
        task_named({"class_path": "ehrlich", "init_args": {"transform": "cube"}})


@pytest.mark.parametrize(
    "options", [{"infeasible": 0.1}, {"infeasible": -inf}, {"trained": 0}, {"transform": "cube"}, {"num_motifs": 9}]
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any]):
    with pytest.raises(ValueError, match=r"dim=32: 9" if "num_motifs" in options else next(iter(options))):
        EhrlichTask(**options)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return import_module("ehrlich")


def test_the_benchmark_tells_the_best_so_far_and_the_mean_of_the_last_calls(bench: ModuleType):
    curve = np.concatenate([np.full(400, 0.5), np.full(300, -inf), np.full(300, 0.25)])
    first, second = bench.points(curve, (400, 1000))
    assert first == {"calls": 400, "best": 0.5, "mean": 0.5, "feasible": 1.0}
    assert second == pytest.approx({"calls": 1000, "best": 0.5, "mean": 0.15, "feasible": 0.6})


@pytest.mark.parametrize("name", ["random search", "GA, one solution", "GA, chain samples", "pygad, chain samples"])
def test_a_method_of_the_benchmark_spends_its_budget_and_follows_from_its_seed(bench: ModuleType, name: str):
    if name != "random search":
        pytest.importorskip("pygad")
    function, method = Ehrlich(32, 32, 2, 4), bench.METHODS[name]
    curve = method(function, 2500, 1)
    assert curve.shape == (2500,) and 0 < curve.max() < 1
    assert (curve == method(function, 2500, 1)).all()
    if "chain" in name:
        assert curve[:200].min() >= 0 and curve[-200:].mean(where=curve[-200:] >= 0) > 2 * curve[:200].mean()


def test_all_that_tie_with_the_last_survivor_survive(bench: ModuleType):
    population, fitness = np.arange(10)[:, None].repeat(4, 1), np.array([-inf, 1, 2, 2, 2, 0, 0, 0, 0, 0])
    search = SimpleNamespace(
        population=population, last_generation_fitness=fitness, numpy_random_generator=np.random.RandomState(0)
    )
    found = bench.recombined(population[:2], (10, 4), search, share=0.1)
    assert found.shape == (10, 4) and found[:3, 0].tolist() == [2, 3, 4] and set(found.flatten()) == {2, 3, 4}
