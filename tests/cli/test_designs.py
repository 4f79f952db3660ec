"""The last stage of sepo design: what is drawn and asked is kept, ranked, described, and told in the report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo import load
from sepo.cli import design_drawing
from sepo.cli.design_options import Design
from sepo.cli.design_report import report
from sepo.cli.design_training import task_of
from sepo.cli.designs import designed, write_designs
from sepo.diffusion.denoiser import Denoiser
from sepo.models import save_pretrained
from sepo.oracles import Ensemble, read_measurements
from sepo.oracles.network import ConvOracle, ConvOracleConfig
from sepo.oracles.saved import save_oracle
from tests.cli.designing import COLUMNS
from tests.oracles.tables import LENGTH, write_motifs

OWN = dict(zip(("sequence", "activity", "second", "group"), COLUMNS[1::2], strict=True))


@pytest.fixture
def what(table) -> Design:
    """All stages before the last, of networks that have learned nothing."""
    made = Design(table, **OWN, output="out", num=8, hidden_size=8, stacks=1, design_steps=5)
    torch.manual_seed(0)
    for name in ("reward", "judge", "other"):
        members = [ConvOracle(ConvOracleConfig(hidden_size=8, kernel=5, dropout=0.0)) for _ in range(2)]
        save_oracle(Ensemble(members), Path("out/oracles") / name)
    generator = task_of(made).denoiser()
    save_pretrained(generator, "out/generator")
    save_pretrained(leaning(generator, 0.2), "out/tuned")
    return made


def leaning(policy: Denoiser, much: float) -> Denoiser:
    """The same, that likes the first letter more."""
    network = policy.network
    with torch.no_grad():
        network.final_conv[-1].bias[0] += much  # type: ignore[union-attr,index,operator]
    return policy


def forbid(*args, **kwargs):
    raise AssertionError("a network was evaluated")


def written() -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path("out/drawn").iterdir()}


def test_designs_have_columns_and_are_ranked_by_the_reward(what):
    what = replace(what, motifs=str(write_motifs(Path("motifs.meme"))))
    task = task_of(what)
    path, figures = write_designs(what, task)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = ["reward", "judge", "doubt", "other", "nearest_distance", "gc", "kmer_3", "motif_hits", "motifs"]
    assert list(rows[0]) == ["id", *numbers, "log_likelihood", "sequence"]
    tokens = task.measured.alphabet.encode([row["sequence"] for row in rows])
    assert len(tokens.unique(dim=0)) == len(rows) == 8 and tokens.shape[1] == LENGTH
    for name, oracle in (("reward", "reward"), ("judge", "judge"), ("other", "other")):
        assert [float(row[name]) for row in rows] == pytest.approx(task.oracle(oracle)(tokens).tolist(), rel=1e-3)
    rewards = [float(row["reward"]) for row in rows]
    drawn = torch.from_numpy(np.load("out/drawn/sequences.npy"))
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[-1] == pytest.approx(float(task.oracle("reward")(drawn.unique(dim=0)).sort().values[-8]), rel=1e-3)
    assert all(float(row["log_likelihood"]) < -LENGTH for row in rows)  # ln 4 = 1.39 nats per letter
    again = read_measurements("out/designs.fasta", activity="log_likelihood")
    assert torch.equal(again.tokens, tokens)
    lower_median = sorted(float(row["judge"]) for row in rows)[3]
    assert figures["designs_activity"] == pytest.approx(lower_median, rel=1e-3)


def test_the_figures_are_of_the_designs_and_of_all_that_was_drawn(what):
    task = task_of(what)
    figures = designed(what, task).figures
    drawn = list(np.load("out/drawn/sequences.npy"))
    metrics = task.metrics([None] * len(drawn), drawn)
    assert len(drawn) == figures["designs_drawn"] == 4 * 8 and figures["designs_number"] == 8
    assert figures["designs_distinct"] == metrics.pop("distinct")
    assert {name.removeprefix("drawn_"): value for name, value in figures.items() if "drawn_" in name[:6]} == metrics
    assert figures["designs_reward_median"] > figures["drawn_reward_median"]
    assert figures["designs_network_evaluations"] == len(drawn) * 5 and figures["designs_reward_calls"] == 0
    assert figures["designs_log_likelihood"] < -LENGTH and figures["designs_seconds"] > 0
    kept = {"activity", "second_share", "pairwise_distance", "nearest_distance", "kmer_3", "kmer_6", "doubt"}
    assert {f"designs_{name}" for name in kept} <= figures.keys()


def test_what_was_drawn_and_asked_is_kept(what, monkeypatch):
    found, made = designed(what, task_of(what)), written()
    for name in ("load", "generator_of", "ask"):
        monkeypatch.setattr(design_drawing, name, forbid)
    again = designed(what, task_of(what))
    assert torch.equal(again.tokens, found.tokens) and again.figures == found.figures and written() == made
    assert all(torch.equal(again.columns[name], column) for name, column in found.columns.items())


@pytest.mark.parametrize(
    "changed",
    [
        {"guidance": "best_of_n", "guidance_kwargs": {"n": 2}},
        {"guidance": "classifier_free", "guidance_kwargs": {"weight": 1.0}},
        {"seed": 1},
        {"oversample": 2},
        {"design_steps": 4},
    ],
    ids=lambda changed: next(iter(changed.values())),
)
def test_another_option_of_drawing_draws_anew(what, changed):
    designed(what, task_of(what))
    before = np.load("out/drawn/sequences.npy")
    what = replace(what, **changed)
    designed(what, task_of(what))
    after = np.load("out/drawn/sequences.npy")
    assert len(after) == what.oversample * what.num and not np.array_equal(before, after)
    made = written()
    designed(what, task_of(what))
    assert written() == made


def test_another_model_draws_anew_and_another_oracle_asks_anew(what):
    designed(what, task_of(what))
    made = written()
    designed(replace(what, motifs=str(write_motifs(Path("motifs.meme")))), task_of(what))
    assert written() == made
    save_oracle(Ensemble([ConvOracle(ConvOracleConfig(hidden_size=4))]), Path("out/oracles/judge"))
    designed(what, task_of(what))
    changed = {name for name, when in written().items() if made[name] != when}
    assert changed == {"judge.npy", "judge.json"}
    save_pretrained(leaning(load("out/tuned"), 2.0), "out/tuned")
    before = np.load("out/drawn/sequences.npy")
    designed(what, task_of(what))
    assert (np.load("out/drawn/sequences.npy") == 0).mean() > (before == 0).mean() + 0.2
    assert all(written()[name] != when for name, when in made.items())


def test_a_guided_draw_rests_on_the_oracle_that_led_it(what):
    what = replace(what, guidance="best_of_n", guidance_kwargs={"n": 2})
    designed(what, task_of(what))
    made = written()
    what = replace(what, doubt=3.0)
    found = designed(what, task_of(what)).figures
    assert written()["sequences.npy"] != made["sequences.npy"] and found["designs_reward_calls"] == 2 * 32


BROKEN = """\
from pathlib import Path

def reward(words):
    open("rewarded.txt", "a").write("x" * len(words))
    return [float(word.count("A")) for word in words]

def judge(words):
    if not Path("mended").exists():
        raise RuntimeError("no licence")
    return [float(word.count("C")) for word in words]
"""


def test_an_oracle_that_fails_costs_no_draw_and_no_answer(what):
    Path("mine.py").write_text(BROKEN)
    what = replace(what, reward_oracle="mine.py:reward", judge_oracle="mine.py:judge")
    with pytest.raises(ValueError, match="no licence"):
        designed(what, task_of(what))
    made, asked = written(), Path("rewarded.txt").read_text()
    assert {"sequences.npy", "reward.npy"} <= made.keys() and "judge.npy" not in made
    Path("mended").touch()
    found = designed(what, task_of(what))
    assert all(written()[name] == when for name, when in made.items()) and Path("rewarded.txt").read_text() == asked
    assert torch.equal(found.columns["judge"], (found.tokens == 1).sum(1).double()) and "doubt" not in found.columns


def test_fewer_designs_than_asked_for_are_told(what, capsys):
    save_pretrained(leaning(load("out/tuned"), 50.0), "out/tuned")
    task = task_of(what)
    _, figures = write_designs(what, task)
    said = "Only 1 of 8 designs: the 32 sequences that were drawn hold no more distinct ones."
    assert said in " ".join(capsys.readouterr().err.split())
    assert figures["designs_number"] == 1 and figures["designs_distinct"] == 1 / 32
    assert said in report(what, task, {}, figures).read_text()


def test_the_report_tells_of_the_designs_under_guidance(what):
    what = replace(what, guidance="smc", guidance_kwargs={"particles": 4, "beta": 0.1})
    task = task_of(what)
    _, figures = write_designs(what, task)
    page = report(what, task, {}, {**figures, "activity_before": -1.25, "activity": -1.0}).read_text()
    assert figures["designs_effective_sample_size"] <= 4 and figures["designs_reward_calls"] > 32
    for told in ("The designs", "all that was drawn", "effective particles", "asked its reward about", "3-mers"):
        assert told in page
    stored = json.loads(Path("out/report.json").read_text())["sections"]
    first = next(section for section in stored if "figures" in section)["figures"][0]
    assert first["value"] == pytest.approx(figures["designs_activity"]) and first["before"] == -1.25
