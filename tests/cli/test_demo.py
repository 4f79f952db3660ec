"""The demo at toy size: what it leaves, and what its report shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sepo.cli import main
from sepo.cli.demo import FIGURES, Demo, cell, finetune_words, pretrain_words

pytest.importorskip("sklearn")


@pytest.mark.slow
def test_the_demo_leaves_a_report_figures_and_a_picture(capsys):
    assert main(["demo", "--quick", "--device", "cpu", "--output", "demo", "--front", "0", "0.3"]) == 0
    folder = Path("demo")
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary)[: len(FIGURES)] == list(FIGURES)
    assert all(isinstance(summary[name], (int, float)) for name in FIGURES)
    assert next(iter(summary["front"])) == "0.0" and len(summary["front"]) == 3
    assert (folder / "before_after.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    for title in (
        *("Teaching a diffusion model threes", "Samples before and after", "The fine-tuned model at work"),
        *("Reward, and the judges it never saw", "Path KL to the pretrained model", "Entropy of the path", "Diversity"),
        *("Network evaluations", "The front over beta", "Verdict", "real 3s", "Settings"),
    ):
        assert title in page
    assert "unseen judges agree" in capsys.readouterr().err
    made = Path("demo/front/beta_0.3/summary.json").stat().st_mtime_ns
    assert cell(Demo(output="demo", quick=True, device="cpu"), folder / "pretrained", 0.3)["beta"] == 0.3
    assert Path("demo/front/beta_0.3/summary.json").stat().st_mtime_ns == made
    assert cell(Demo(output="demo", quick=True, device="cpu", seed=1), folder / "pretrained", 0.3)["beta"] == 0.3
    assert Path("demo/front/beta_0.3/summary.json").stat().st_mtime_ns != made
    words = ["--quick", "--device", "cpu", "--output", "demo2", "--pretrained", "demo/pretrained", "--beta", "0"]
    assert main(["demo", *words]) == 0
    again = json.loads(Path("demo2/summary.json").read_text())
    assert again["pretrain_seconds"] == summary["pretrain_seconds"]
    assert again["beta"] == 0 and again["path_kl"] is not None


def test_the_demo_is_two_commands_and_their_recipes():
    what = Demo(output="out", seed=3, beta=0.1, device="cpu")
    base = Path("out/pretrained")
    assert pretrain_words(what, base) == ["digits", "--output_dir", "out/pretrained", "--seed", "3", "--use_cpu"]
    words = ["digits", "--model", "out/pretrained", "--output_dir", "out", "--seed", "3", "--use_cpu", "--beta", "0.1"]
    assert finetune_words(what, base) == words
    assert finetune_words(Demo(), base)[:3] == ["digits", "--model", "out/pretrained"]


def test_a_mistake_in_the_demo_is_told(capsys):
    assert main(["demo", "--seed", "x"]) == 2
    assert "--seed x: expected a whole number." in capsys.readouterr().err
    assert main(["demo", "--pretrained", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err
