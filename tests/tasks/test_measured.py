"""The task of a table: oracles from outside take the place of fitted ones; what is said of samples."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sepo.evaluation.motif_hits import hit_correlation, motif_hits
from sepo.evaluation.sequences import kmer_correlation
from sepo.tasks import Measured
from sepo.tasks.asking import AT_ONCE, asked
from tests.oracles.tables import LENGTH, write_motifs, write_table

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


def test_the_distance_to_the_nearest_is_that_to_the_whole_table(task) -> None:
    known = task.measured.tokens
    nearest = (torch.from_numpy(np.stack(SAMPLES)).unsqueeze(1) != known).sum(-1).amin(1)
    assert task.metrics([None] * 5, SAMPLES)["nearest_distance"] == float(nearest.double().median())
    assert torch.equal(task.described(torch.from_numpy(np.stack(SAMPLES)))["nearest_distance"], nearest)


def test_each_sequence_is_described(task) -> None:
    tokens = torch.from_numpy(np.stack(SAMPLES))
    found = task.described(tokens)
    assert list(found) == ["nearest_distance", "gc", "kmer_3"]
    words = task.spelled(SAMPLES)
    assert found["gc"].tolist() == pytest.approx([(word.count("G") + word.count("C")) / LENGTH for word in words])
    best = task.measured.tokens[task.measured.activity.topk(10).indices]
    assert found["kmer_3"].tolist() == pytest.approx([kmer_correlation(row, best, 3, 4) for row in tokens.split(1)])


def test_motifs_are_counted_and_compared_with_those_of_the_best(tmp_path, task) -> None:
    words = task.spelled(SAMPLES)
    best = task.measured.tokens[task.measured.activity.topk(10).indices]
    chosen = (words[0][:5], words[1][:5], task.measured.alphabet.decode(best)[0][:5])
    task = replace(task, motifs=str(write_motifs(tmp_path / "motifs.meme", chosen)))
    tokens = torch.from_numpy(np.stack(SAMPLES))
    assert task.known_motifs is not None
    hits = motif_hits(tokens, task.known_motifs)
    found = task.described(tokens)
    assert torch.equal(found["motif_hits"], hits.sum(1)) and torch.equal(found["motifs"], (hits > 0).sum(1))
    assert int(hits.sum()) >= 2 and int(found["motifs"].max()) <= 3
    expected = hit_correlation(hits.sum(0), motif_hits(best, task.known_motifs).sum(0))
    assert task.metrics([None] * 5, SAMPLES)["motif_correlation"] == pytest.approx(expected)


def test_motifs_of_other_letters_are_refused(tmp_path) -> None:
    (tmp_path / "table.csv").write_text("sequence,activity\nACGU,1\nACGA,2\n")
    task = Measured(data=str(tmp_path / "table.csv"), alphabet="rna", motifs=str(write_motifs(tmp_path / "motifs")))
    with pytest.raises(ValueError, match=r"whose letters are ACGT, and these sequences are of ACGU: leave the option"):
        _ = task.known_motifs


def test_proteins_and_short_sequences_are_described_as_far_as_they_can_be(tmp_path) -> None:
    for alphabet, words, names in (("protein", "MKVL MKVA", ["kmer_3"]), ("dna", "AC GT", ["gc"])):
        rows = "".join(f"{word},{number}\n" for number, word in enumerate(words.split()))
        (tmp_path / f"{alphabet}.csv").write_text(f"sequence,activity\n{rows}")
        task = Measured(data=str(tmp_path / f"{alphabet}.csv"), alphabet=alphabet)
        assert list(task.described(task.measured.tokens)) == ["nearest_distance", *names]


def test_oracles_are_asked_in_batches() -> None:
    sizes, done = [], []

    def oracle(tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tokens))
        return tokens[:, 0].double()

    tokens = torch.arange(2 * AT_ONCE + 5).unsqueeze(1)
    assert torch.equal(asked(oracle, tokens, done.append), tokens[:, 0].double())
    assert sizes == [AT_ONCE, AT_ONCE, 5] and done == [AT_ONCE, 2 * AT_ONCE, 2 * AT_ONCE + 5]
