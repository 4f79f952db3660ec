"""A few cells of the laboratory: exact gradients where they are claimed, and the way to the optimum."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch.nn import functional

from sepo.diffusion.soft import straight_through

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    "cells",
    "lab_worlds",
    "lab_measured",
    "lab_soft",
    "laboratory",
    "methods",
    "targets",
    "gradient_quality",
    "convergence",
    "lab_tables",
    "lab_figures",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})


@pytest.fixture(scope="module")
def half(lab):
    """The chain, with a network that is far from consistent."""
    world = lab.lab_worlds.LAB_WORLDS[0]
    return world, lab.lab_worlds.pretrained(world, "absorbing", steps=40)


def setting(lab, half, name: str):
    world, policy = half
    [method] = [each for each in lab.methods.methods("absorbing") if each.name == name]
    sampler = lab.laboratory.sampler_of(method, "absorbing", world.world)
    return lab.laboratory.Setting(world.world, world.reward(world.world), world.beta, policy, sampler), method


def test_every_state_is_exact_for_reward_less_kl_and_all_sites_is_not(lab, half) -> None:
    policy = half[1]
    for name, exact in (("sepo, not regressed", True), ("sepo, all sites, every state", False)):
        where, method = setting(lab, half, name)
        target = lab.targets.targets(where, policy, (0,), away=2)[0]
        found = lab.gradient_quality.quality(where, method, target, lab.gradient_quality.Settings(4, 16))
        assert found["bias_error"] == 0
        assert (found["relative_bias"] < 1e-5) == exact
        assert found["evaluations"] == 4 + 4 + 4  # rollout, reference, update


def test_the_worlds_state_laws_that_sum_to_one_and_rewards_between_zero_and_one(lab) -> None:
    for world in lab.lab_worlds.LAB_WORLDS:
        law, reward = world.law(world.world), world.reward(world.world)
        assert float(law.sum()) == pytest.approx(1)
        assert 0 <= float(reward.min()) < float(reward.max()) <= 1


def test_a_mean_that_is_nothing_but_its_error_has_no_direction(lab, half) -> None:
    """Everything masked at once: the mean field sees no gradient of a reward that only pairs of sites decide."""
    ising = lab.lab_worlds.LAB_WORLDS[1]
    flat = lab.lab_worlds.pretrained(ising, "absorbing", steps=1)
    with torch.no_grad():
        for weight in flat.network.parameters():
            weight.zero_()
    where, method = setting(lab, (ising, flat), "diffu_grpo")
    target = lab.targets.Target(flat, flat, lab.targets.exact_gradient(where, flat))
    found = lab.gradient_quality.quality(where, method, target, lab.gradient_quality.Settings(6, 32))
    assert found["variance"] == found["variance"] and abs(found["cosine"]) <= 1


def test_fine_tuning_comes_closer_to_the_optimum_within_its_budget(lab, half) -> None:
    where, method = setting(lab, half, "sepo")
    settings = lab.convergence.Settings(budget=12_000)
    before = lab.convergence.law_of(where, half[1])
    start = lab.convergence.standing(where, before, before)
    found = lab.convergence.fine_tune(where, method, settings, rate=3e-3, seed=0)
    assert len(found) == 8 and found[-1]["evaluations"] >= 12_000
    assert found[-1]["total_variation"] < 0.6 * start["total_variation"]


def test_landmarks_are_the_law_that_runs_begin_with_and_the_best_one(lab, half, tmp_path) -> None:
    world, policy = half
    cells = lab.cells.Cells(tmp_path / "landmarks.json", ("world", "process", "sampler"), {})
    lab.convergence.mark(world, "absorbing", lambda: policy, cells)
    start, best = cells.where(sampler="first_hitting")
    assert (start["landmark"], best["landmark"]) == ("pretrained", "optimum")
    before, reward = lab.convergence.law_of(setting(lab, half, "sepo")[0], policy), world.reward(world.world)
    assert start["kl"] == best["total_variation"] == 0
    assert start["expected_reward"] == pytest.approx(float((before * reward).sum()))
    log_z = float((before * (reward / 0.1).exp()).sum().log())
    assert best["objective"] == pytest.approx(0.1 * log_z)
    assert best["objective"] == pytest.approx(best["expected_reward"] - 0.1 * best["kl"])
    assert {each["sampler"] for each in cells.records} == {"first_hitting", "left_to_right"}


def test_a_table_of_arrivals_tells_the_kl_to_the_optimum_of_each_sampler(lab) -> None:
    """KL(p || optimum) is what is missing of E[R] - beta KL, in nats."""
    law, reward = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 0.2, 0.0])
    worlds = {"first_hitting": torch.tensor([0.1, 0.3, 0.6]), "left_to_right": torch.tensor([0.2, 0.2, 0.6])}
    marks, records, expected = [], [], {}
    for (sampler, before), method in zip(worlds.items(), ("sepo", "just_grpo"), strict=True):
        best = lab.convergence.optimum(before, reward, 0.1)
        for landmark, each in (("pretrained", before), ("optimum", best), (method, law)):
            kl = float(lab.convergence.kl(each, before))
            value = float((each * reward).sum())
            found = {"world": "gb1", "expected_reward": value, "kl": kl, "objective": value - 0.1 * kl}
            found |= {"total_variation": 0.5, "process": "absorbing"}
            if landmark == method:
                records.append(found | {"method": method, "spread": 0.1, "learning_rate": 0.003})
                expected[method] = f"{float(lab.convergence.kl(law, best)):.3f}"
            else:
                marks.append(found | {"sampler": sampler, "landmark": landmark})
    rows = [line.split(" | ") for line in lab.lab_tables.arrivals(records, marks, "gb1").splitlines()[2:]]
    away = {row[0].removeprefix("| "): row[3] for row in rows}
    assert [float(row[3]) for row in rows] == sorted(float(row[3]) for row in rows)
    assert {name: away[name] for name in expected} == expected
    assert away["*optimum*"] == away["*optimum, left to right*"] == "0.000" and float(away["*pretrained*"]) > 0


def test_every_method_spends_evaluations_and_moves_the_policy(lab) -> None:
    """A collection of 8 in a world of four sequences."""
    worlds = lab.lab_worlds
    tiny = worlds.LabWorld("tiny", worlds.World(2, 2), worlds.markov_chain, lambda world: worlds.count(world, 1) / 2)
    half = tiny, worlds.pretrained(tiny, "absorbing", steps=2)
    for method in lab.methods.methods("absorbing"):
        where = setting(lab, half, method.name)[0]
        [found] = lab.convergence.fine_tune(
            where, method, lab.convergence.Settings(60, 8), rate=3e-3, seed=0, standings=1
        )
        assert found["evaluations"] >= 60 and 0 < found["kl"] < 0.1, method.name


def test_elite_replay_raises_the_reward_of_what_it_has_seen(lab, half) -> None:
    where, method = setting(lab, half, "elite_replay")
    before = lab.convergence.law_of(where, half[1])
    start = lab.convergence.standing(where, before, before)
    found = lab.convergence.fine_tune(
        where, method, lab.convergence.Settings(budget=3_000), rate=1e-2, seed=0, standings=1
    )
    assert found[-1]["expected_reward"] > start["expected_reward"] + 0.2


def test_a_table_has_a_multilinear_extension(lab) -> None:
    """The table at one-hot sites, the mean of its two ends in between at any one site, and the mask adds nothing."""
    world = lab.lab_worlds.World(3, 4)
    table = torch.randn(len(world.sequences), dtype=torch.double, generator=torch.Generator().manual_seed(0))
    reward = lab.lab_soft.multilinear(world, table)
    torch.testing.assert_close(reward(functional.one_hot(world.sequences, 4).double()), table)
    shares = torch.rand(5, 4, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    mean = (table * shares[:, torch.arange(4), world.sequences].prod(-1)).sum(1)
    torch.testing.assert_close(reward(shares), mean)
    for site in range(4):
        other = shares.clone()
        other[:, site] = torch.tensor([0.2, 0.5, 0.3, 7.0])
        torch.testing.assert_close(reward(0.25 * shares + 0.75 * other), 0.25 * reward(shares) + 0.75 * reward(other))


def test_the_slope_of_the_extension_at_a_sequence_is_the_reward_of_its_neighbours(lab) -> None:
    """Also through DRAKES' straight-through end, and in a world as large as the measured ones."""
    world = lab.lab_worlds.World(4, 8)
    table = torch.rand(len(world.sequences), generator=torch.Generator().manual_seed(0))
    x0 = world.sequences[[77, 31_000]]
    hot = functional.one_hot(x0, 5).float().requires_grad_()
    [slope] = torch.autograd.grad(lab.lab_soft.multilinear(world, table)(straight_through(hot)).sum(), hot)
    for site in range(8):
        for letter in range(4):
            near = x0.clone()
            near[:, site] = letter
            torch.testing.assert_close(slope[:, site, letter], table[world.index(near)])
    assert (slope[..., 4] == 0).all()


def test_drakes_is_biased_and_its_hard_states_less(lab, half) -> None:
    """Against the exact gradient of its own sampler: it is published with soft states."""
    found = {}
    for name in ("drakes", "drakes, hard states"):
        where, method = setting(lab, half, name)
        assert where.sampler.steps == 4 and where.sampler.steps == method.objective(where).truncate
        target = lab.targets.targets(where, half[1], (0,))[0]
        found[name] = lab.gradient_quality.quality(where, method, target, lab.gradient_quality.Settings(6, 64))
        assert found[name]["reading"] == 8  # policy and reference at each of four steps
    assert found["drakes"]["relative_bias"] > found["drakes, hard states"]["relative_bias"] > 0.1
    assert found["drakes, hard states"]["cosine"] > 0.9


def test_every_method_of_the_library_is_in_the_laboratory(lab) -> None:
    from sepo.objectives.algorithms import ALGORITHMS

    names = {each.name for each in lab.methods.methods("absorbing")}
    assert {*ALGORITHMS, "drakes"} <= names


@pytest.fixture
def tables(tmp_path) -> Path:
    """Both measured tables in the published format: every 8-mer, and 300 variants."""
    words = pd.DataFrame({"8-mer": ["".join(word) for word in product("ACGT", repeat=8)]})
    words["8-mer.1"] = words["8-mer"].map(lambda word: word[::-1].translate(str.maketrans("ACGT", "TGCA")))
    words = words[words["8-mer"] <= words["8-mer.1"]]
    words["E-score"] = words["8-mer"].str.count("AC") / 8 - 0.3
    words.to_csv(tmp_path / "SIX6_REF_R1_8mers.tsv.gz", sep="\t", index=False)
    variants = ["".join(word) for word in product("ACDEFGHIKLMNPQRSTVWY", repeat=2)][:300]
    fitness = pd.DataFrame({"Variants": [word + "GV" for word in variants], "HD": 2, "Fitness": 0.5})
    fitness.loc[0, "Fitness"], fitness.loc[1, "Fitness"] = 4.0, 0.25
    fitness.to_csv(tmp_path / "gb1_4site.csv.gz", index=False)
    return tmp_path


def test_measured_worlds_read_their_tables(lab, tables) -> None:
    binding, fitness = lab.lab_measured.measured_worlds(tables)
    reward, law = binding.reward(binding.world), binding.law(binding.world)
    assert float(reward.min()) == 0 and float(reward.max()) == 1 and binding.processes == ("absorbing",)
    both = torch.tensor([[0, 1] * 4, [2, 3] * 4])  # ACACACAC and its reverse complement, by letter 0..3 = A C G T
    assert reward[binding.world.index(both)].tolist() == [1, 1]
    assert float(law.sum()) == pytest.approx(1) and float((law * reward).sum()) < float(reward.mean())
    reward, law = fitness.reward(fitness.world), fitness.law(fitness.world)
    assert int((law > 0).sum()) == 300 and float(law.sum()) == pytest.approx(1)
    assert float(reward.max()) == 1 and float(reward[law == 0].max()) == float(reward.min()) == 0.25 / 4


def test_a_missing_table_is_named(lab, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"SIX6_REF_R1_8mers.tsv.gz is not there.*--data"):
        lab.lab_measured.measured_worlds(tmp_path)


def test_a_table_without_its_column_is_named(lab, tables) -> None:
    pd.DataFrame({"Variants": ["AAAA"], "fitness": [1.0]}).to_csv(tables / "gb1_4site.csv.gz", index=False)
    fitness = lab.lab_measured.measured_worlds(tables)[1]
    with pytest.raises(ValueError, match="no column 'Fitness'"):
        fitness.reward(fitness.world)


def test_figures_are_drawn_of_every_row(lab, tmp_path) -> None:
    run = [{"evaluations": 50, "total_variation": 0.5}, {"evaluations": 100, "total_variation": 0.3}]
    names = [method.name for method in lab.methods.methods("absorbing")]
    records = [
        {"world": world, "process": "absorbing", "method": name, "total_variation": 0.3, "runs": [run, run[:1]]}
        for world in ("chain", "gb1")
        for name in names
    ]
    lab.lab_figures.convergence_figure(records, tmp_path / "convergence.png")
    assert (tmp_path / "convergence.png").stat().st_size > 10_000
    assert {*names} >= {*lab.lab_figures.ALWAYS}


def test_cells_are_kept_replaced_and_left_alone(lab, tmp_path) -> None:
    path = tmp_path / "deep" / "cells.json"
    cells = lab.cells.Cells(path, ("world", "method"), {"budget": 1})
    cells.put("chain", "sepo", records=[{"value": 1.0}, {"value": 2.0}])
    cells.put("ising", "sepo", records=[{"value": 3.0}])
    again = lab.cells.Cells(path, ("world", "method"), {"budget": 1})
    assert again.has("chain", "sepo") and not again.has("chain", "espo")
    other = lab.cells.Cells(path, ("world", "method"), {"budget": 2})
    assert not other.has("chain", "sepo")
    other.put("chain", "sepo", records=[{"value": 4.0}])
    assert [each["value"] for each in lab.cells.Cells(path, ("world", "method"), {}).records] == [3.0, 4.0]
