"""The task of a table: oracles from outside take the place of fitted ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo.tasks import Measured
from tests.oracles.tables import LENGTH, write_table

SAMPLES = list(torch.randint(4, (5, LENGTH), generator=torch.Generator().manual_seed(0)).numpy())
MINE = """\
import sys

def count(words):
    return [word.count("A") for word in words]

if __name__ == "__main__":
    for record in sys.stdin.read().split(">")[1:]:
        print("".join(record.split()[1:]).count("T"))
"""


@pytest.fixture
def task(tmp_path) -> Measured:
    table = write_table(tmp_path / "table.csv", rows=100)
    (tmp_path / "mine.py").write_text(MINE)
    return Measured(
        data=str(table),
        sequence="seq",
        activity="act",
        reward_oracle=f"{sys.executable} {tmp_path}/mine.py",
        judge_oracle=f"{tmp_path}/mine.py:count",
        top=0.1,
    )


def test_a_command_rewards_and_a_function_judges(task) -> None:
    reward = task.reward([None] * 5, SAMPLES, [[0]] * 5)
    assert reward == [float((sample == 3).sum()) for sample in SAMPLES]
    metrics = task.metrics([None] * 5, SAMPLES)
    assert metrics["activity"] == float(np.median([(sample == 0).sum() for sample in SAMPLES]))
    assert "doubt" not in metrics and "second_share" not in metrics


def test_the_table_is_shared_out_between_corpus_and_held_out_rows(task) -> None:
    corpus, held = task.corpus(), task.heldout()
    assert held is not None and len(corpus) == 95 and len(held) == 5
    rows = sorted(row["tokens"] for part in (corpus, held) for row in part)
    assert rows == sorted(task.measured.tokens.tolist())


def test_what_is_rewarded_cannot_judge(tmp_path, task) -> None:
    named = str(tmp_path / "mine.py:count")
    for judge, oracles in ((f"{tmp_path}/../{tmp_path.name}/mine.py:count", None), (f"{tmp_path}/o/../o/reward", "o")):
        folder = None if oracles is None else str(tmp_path / oracles)
        reward = named if oracles is None else None
        with pytest.raises(ValueError, match="are the same: what is rewarded cannot judge"):
            Measured(data=task.data, reward_oracle=reward, judge_oracle=judge, oracles=folder)


def test_an_oracle_that_is_not_there_is_asked_for(tmp_path, task) -> None:
    bare = Measured(data=task.data, sequence="seq", activity="act")
    with pytest.raises(ValueError, match=r"no oracle 'judge': name the folder .* or your own with --task.judge_oracle"):
        bare.oracle("judge")
    with pytest.raises(ValueError, match=rf"{Path(tmp_path)}/mine.py"):
        Measured(data=task.data, sequence="seq", activity="act", judge_oracle=f"{tmp_path}/mine.py:nothing").oracle(
            "judge"
        )
