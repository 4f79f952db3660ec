"""The table of bad inputs in the guide is what the benchmark prints; samplers that cannot be trained with."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sepo import SEPOConfig
from sepo.diffusion.process import Absorbing
from sepo.samplers import Confidence, sampler_named
from sepo.training.building import build_parts

ROOT = Path(__file__).parents[2]
SCRIPT, GUIDE = ROOT / "benchmarks" / "bad_inputs.py", ROOT / "docs" / "guide" / "troubleshooting.md"


def rows(text: str) -> dict[str, str]:
    """What happens, by input, in a table."""
    cells = [line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| ")]
    return {what: outcome for what, outcome in cells if what != "input"}


def test_the_guide_tells_of_every_bad_input(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    cases = importlib.import_module("bad_input_cases").CASES
    assert list(rows(GUIDE.read_text(encoding="utf-8"))) == [case.what for case in cases]


@pytest.mark.slow
def test_every_bad_input_gets_what_the_guide_says():
    done = subprocess.run([sys.executable, str(SCRIPT)], cwd=ROOT, capture_output=True, text=True, check=True)
    happened, said = rows(done.stdout), rows(GUIDE.read_text(encoding="utf-8"))
    for what, outcome in happened.items():
        assert outcome not in ("nothing", "the run goes on") and not outcome.startswith("TrainOutput"), what
        assert outcome.split(":")[0] == said[what].split(":")[0], what


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "dplm"},
        {"sampler": "confidence", "sampler_kwargs": {"rule": "low_confidence"}},
        {"sampler": "confidence", "sampler_kwargs": {"temperature": 0.5}},
        {"sampler": "confidence", "sampler_kwargs": {"rule_temperature": 0.1}},
        {"sampler": "confidence", "sampler_kwargs": {"cache": "block", "block_length": 32}},
    ],
    ids=str,
)
def test_a_sampler_without_the_density_of_its_path_is_not_trained_with(tmp_path: Path, options: dict[str, Any]):
    words = r"not the density of its path.*ratios and KL.*rule='entropy'.*temperature=1.*sepo sample"
    with pytest.raises(ValueError, match=words):
        SEPOConfig(str(tmp_path), report_to="none", use_cpu=True, **options)
    config = SEPOConfig(str(tmp_path), report_to="none", use_cpu=True, sampler="confidence", sampling_steps=4)
    assert build_parts(config, Absorbing(5, 4)).sampler == Confidence(4)
    given = sampler_named(options["sampler"], None, options.get("sampler_kwargs"))
    with pytest.raises(ValueError, match=words):
        build_parts(config, Absorbing(5, 4), sampler=given)
