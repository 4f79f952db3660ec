"""The guide to rewards: its code runs, and the messages that it prints are those that users get."""

from __future__ import annotations

import asyncio
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo.rewards import Cached, RewardCalls, Rewards

HEADING = "## What each mistake is told"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def guide() -> str:
    [page] = [text for text in (path.read_text() for path in DOCS.rglob("rewards.md")) if HEADING in text]
    return page


def reward(returned):
    def validity(completions):
        return returned

    return validity


def raising(completions):
    raise KeyError("GC")


def slow(completions):
    time.sleep(0.2)


async def awaiting(completions):
    await asyncio.sleep(5)


async def blocking(completions):
    time.sleep(0.3)
    return [0.0] * 4


def needy(completions, answer):
    return [0.0] * 4


def logging(completions, log_extra):
    log_extra("length", [1, 2])
    return [0.0] * 4


def taking(completions, log_metric):
    log_metric("rewards/taking/mean", 1.0)
    return [0.0] * 4


def texting(completions, log_metric):
    log_metric("note", "fine")
    return [0.0] * 4


def asked(reward_funcs, columns=None, calls=None, **options):
    completions = ["ACGT", "GGCC", "TTTT", "AATT"]
    Rewards.of(reward_funcs, calls=calls, **options)([None] * 4, completions, [[0]] * 4, columns)


IN_TIME = RewardCalls(timeout=0.05)
MISTAKES = {
    "raises every time": lambda: asked(raising, calls=RewardCalls(retries=2, backoff=0)),
    "async and too slow": lambda: asked(awaiting, calls=IN_TIME),
    "async and blocking": lambda: asked(blocking, calls=IN_TIME),
    "shape": lambda: asked(reward(torch.zeros(4, 2))),
    "column like an argument": lambda: asked(needy, {"completions": [0] * 4}),
    "extra column": lambda: asked(logging),
    "two extra columns": lambda: asked([reward([0.0] * 4), extra("first"), extra("second")]),
    "metric name": lambda: asked(taking),
    "metric value": lambda: asked(texting),
    "no reward": lambda: asked([]),
    "not a reward": lambda: asked(3.0),
    "weights": lambda: asked(reward([0.0] * 4), weights=[1.0, 2.0]),
    "zero weights": lambda: asked(reward([0.0] * 4), weights=[0.0]),
    "processing classes": lambda: asked([raising, slow], processing_classes=[None]),
    "cached async": lambda: Cached(awaiting),
    "timeout": lambda: RewardCalls(timeout=-1.0),
}


def extra(name):
    def named(completions, log_extra):
        log_extra("length", [len(text) for text in completions])
        return [0.0] * 4

    named.__name__ = name
    return named


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_messages_of_the_guide_are_those_that_users_get(guide, mistake):
    with pytest.raises(ValueError) as caught:
        MISTAKES[mistake]()
    assert str(caught.value) in guide


def judged(judge, calls=None):
    """What `benchmarks/bad_inputs.py` asks: eight arrays, and a reward of this name."""
    judge.__name__ = "judge"
    Rewards.of(judge, calls=calls)([None] * 8, [np.array([2, 1, 0, 2, 2, 2])] * 8, [[0]] * 8)


def spoiled(value):
    return lambda completions: [0.0, 0.0, value, *[0.0] * 5]


COMMON = {
    "raises": lambda: judged(lambda completions: 1 / 0),
    "too slow": lambda: judged(lambda completions: time.sleep(0.4), RewardCalls(timeout=0.1)),
    "wrong number": lambda: judged(lambda completions: [0.5] * 7),
    "single number": lambda: judged(lambda completions: 0.5),
    "text for a number": lambda: judged(spoiled("good")),
    "nan": lambda: judged(spoiled(math.nan)),
    "infinity": lambda: judged(spoiled(math.inf)),
    "missing argument": lambda: judged(lambda completions, answer: [0.5] * 8),
}


@pytest.mark.parametrize("mistake", COMMON)
def test_the_common_messages_are_those_of_the_page_of_errors(mistake):
    page = (DOCS / "guide" / "troubleshooting.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        COMMON[mistake]()
    assert str(caught.value) in page


def test_the_code_of_the_guide_runs(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "SEPOTrainer" not in block]
    assert len(blocks) > 5
    everything: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "guide", "exec"), everything)
