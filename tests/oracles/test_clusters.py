"""Clusters: planted families end together, unrelated sequences apart, and no stretch is shared across clusters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Generator, Tensor

from sepo.oracles import clusters, read_measurements, split_by_group

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def drawn(rows: int, length: int, seed: int = 0, letters: int = 4) -> Tensor:
    return torch.randint(letters, (rows, length), generator=Generator().manual_seed(seed))


def words_of(tokens: Tensor) -> list[str]:
    return ["".join("ACGT"[token] for token in row) for row in tokens.tolist()]


def repetitive(word: str) -> bool:
    most = len(word) // 2 + 1
    pieces = [word[place : place + most] for place in range(len(word) - most + 1)]
    return any(each[period:] == each[:-period] for each in pieces for period in (1, 2, 3) if 2 * period <= most)


def expected(words: list[str], stretch: int) -> list[int]:
    """By the definition: all pairs compared, then the first sequence that each is connected with."""
    ends = [place for place in range(len(words[0])) if len({word[place] for word in words}) > 1] or [0]
    inner = [word[ends[0] : ends[-1] + 1] for word in words]
    held = []
    for word in inner:
        own = {word[place : place + stretch] for place in range(len(word) - stretch + 1)}
        held.append({min(each, each.translate(COMPLEMENT)[::-1]) for each in own if not repetitive(each)})
    found = list(range(len(words)))
    for _ in words:
        for first in range(len(words)):
            for second in range(len(words)):
                if words[first] == words[second] or held[first] & held[second]:
                    found[first] = found[second] = min(found[first], found[second])
    return found


@settings(max_examples=25, deadline=None)
@given(
    seed=some.integers(0, 10_000), rows=some.integers(2, 25), letters=some.integers(2, 4), stretch=some.integers(4, 9)
)
def test_clusters_are_the_connected_components_of_shared_stretches(seed, rows, letters, stretch) -> None:
    tokens = drawn(rows, 16, seed, letters)
    found = clusters(tokens, "ACGT", stretch)
    wanted = expected(words_of(tokens), stretch)
    assert [[a == b for a in found] for b in found] == [[a == b for a in wanted] for b in wanted]


def test_families_end_together_and_strangers_apart() -> None:
    """Parents with 20 children of 7 substitutions, tiles of one region, 200 strangers, a reverse complement of one."""
    chance = Generator().manual_seed(1)
    parents = drawn(5, 200, seed=2)
    children = parents.repeat_interleave(20, 0)
    for child in children:
        places = torch.randperm(200, generator=chance)[:7]
        child[places] = (child[places] + torch.randint(1, 4, (7,), generator=chance)) % 4
    tiles = drawn(1, 1000, seed=3)[0].unfold(0, 200, 50)
    reverse = 3 - drawn(200, 200, seed=4)[:1].flip(1)
    tokens = torch.cat([parents, children, tiles, drawn(200, 200, seed=4), reverse])
    found = clusters(tokens, "ACGT", 24)
    for family in range(5):
        assert {found[family], *found[5 + 20 * family : 25 + 20 * family]} == {found[family]}
    assert len(set(found[:5])) == 5 and set(found[105:122]) == {"cluster_6"}
    assert found[122] == found[-1] and len(set(found[122:-1])) == 200
    assert found[0] == "cluster_1" and found.count("cluster_1") == 21


def test_common_ends_and_repeats_relate_nobody_but_equal_sequences_do() -> None:
    ends = [drawn(1, 30, seed=seed).expand(50, 30) for seed in (5, 6)]
    assert len(set(clusters(torch.cat([ends[0], drawn(50, 60, seed=7), ends[1]], 1), "ACGT", 12))) == 50
    repeats = torch.tensor([[0], [1]]).repeat(25, 40)
    repeats[:, 1::2] = 3
    assert len(set(clusters(torch.cat([drawn(50, 20, seed=8), repeats, drawn(50, 20, seed=9)], 1), "ACGT", 16))) == 50
    assert clusters(torch.zeros(3, 20, dtype=torch.long), "ACGT", 12) == ["cluster_1"] * 3
    assert len(set(clusters(drawn(20, 60, seed=4).repeat(2, 1), "ACGT", 12))) == 20


def test_strands_are_those_of_dna_alone() -> None:
    tokens = drawn(1, 40)
    both = torch.cat([tokens, 3 - tokens.flip(1)])
    assert len(set(clusters(both, "ACGT", 12))) == 1 and len(set(clusters(both, "ACGU", 12))) == 2


@pytest.mark.parametrize(("letters", "stretch"), [("ACGT", 3), ("ACGT", 33), ("ACDEFGHIKLMNPQRSTVWY", 15), ("AC", 41)])
def test_a_stretch_that_cannot_be_is_refused(letters, stretch) -> None:
    with pytest.raises(ValueError, match=rf"cluster={stretch}: must be 4 to \d+ letters"):
        clusters(drawn(4, 40, letters=2), letters, stretch)


def test_a_table_without_groups_is_split_by_clusters(tmp_path: Path) -> None:
    parents = drawn(12, 40).repeat_interleave(5, 0)
    parents[:, 20] = torch.arange(60) % 4
    rows = [f"{word},{place}" for place, word in enumerate(words_of(parents))]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["sequence,activity,cluster", *(f"{row},x" for row in rows)]) + "\n")
    measured = read_measurements(str(path), cluster=16)
    split = split_by_group(measured.groups)
    parts = [{place // 5 for place in part.tolist()} for part in (split.reward, split.judge, split.unseen)]
    assert not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]
    assert read_measurements(str(path), group="cluster").groups[0] == "x"
    with pytest.raises(ValueError, match="group='cluster' and cluster=16: both make groups"):
        read_measurements(str(path), group="cluster", cluster=16)


def test_a_cluster_of_more_than_half_of_the_table_is_told(tmp_path: Path) -> None:
    related = drawn(1, 40).repeat(6, 1)
    related[:, 0], related[:, -1] = torch.arange(6) % 4, torch.arange(6) % 3
    rows = [f"{word},1" for word in words_of(torch.cat([drawn(5, 40, seed=1), related]))]
    (tmp_path / "t.csv").write_text("\n".join(["sequence,activity", *rows]) + "\n")
    [told] = read_measurements(str(tmp_path / "t.csv"), cluster=24).findings
    assert str(told).startswith("6 rows: all in one cluster, more than half of the table") and not told.left_out
    assert "row 7 " in str(told)
