"""Measured tables as rewards."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from sepo.rewards import Rewards, TableReward


def test_a_completion_has_the_value_of_the_table_or_none():
    reward = TableReward({"ACGT": 1.5, "TTTT": -1})
    assert reward(["ACGT", "GGGG", "TTTT"]) == [1.5, None, -1]
    assert TableReward({"A": 1.0}, missing=-9)(["A", "C"]) == [1.0, -9]
    assert Rewards.of(reward)([None] * 2, ["ACGT", "GGGG"]).by_name() == {"TableReward": [1.5, None]}


def test_arrays_are_looked_up_as_tuples_or_spelled_by_an_alphabet():
    arrays = [np.array([0, 1]), np.array([1, 1])]
    assert TableReward({(0, 1): 2.0})(arrays) == [2.0, None]
    assert TableReward({"AC": 2.0}, alphabet="ACGT")(arrays) == [2.0, None]
    with pytest.raises(ValueError, match="beyond the 2 letters of alphabet='AC'"):
        TableReward({"AC": 2.0}, alphabet="AC")([np.array([0, 3])])


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="table is empty"):
        TableReward({})


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "T.TSV.GZ"])
def test_tables_are_read_from_files(tmp_path, name):
    comma = "," if "csv" in name else "\t"
    rows = [["seq", "note", "value"], ["AC", "x", "0.5"], ["AG", "y", ""], ["AT", "", "-2e1"], ["AC", "again", "0.5"]]
    text = "\n".join(comma.join(row) for row in rows) + "\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.lower().endswith("gz") else text.encode())
    reward = TableReward.read(path, "seq", "value", missing=0.0)
    assert reward.table == {"AC": 0.5, "AT": -20.0}
    assert reward(["AC", "AG"]) == [0.5, 0.0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "a,b\nAC,1\n", "has no column 'seq'; it has a, b"),
        ("t.csv", "", "has no column 'seq'; it has none"),
        ("t.csv", "seq,value\nAC,high\n", "line 2: 'high' is not a finite number"),
        ("t.csv", "seq,value\nAC,inf\n", "line 2: 'inf' is not a finite number"),
        ("t.csv", "seq,value\nAC,1\nAC,2\n", "line 3: 'AC' has the value 2.0 here and 1.0 before"),
        ("t.csv", "seq,value\nAC,\n", "table is empty"),
        ("t.xlsx", "", "a table is a .csv, .tsv or .txt"),
        ("none.csv", None, "No such file or directory"),
        ("t.csv.gz", "seq,value\n", "cannot be read: Not a gzipped file"),
    ],
)
def test_a_wrong_file_names_the_line_the_value_and_the_rule(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as caught:
        TableReward.read(tmp_path / name, "seq", "value")
    assert message in str(caught.value)
