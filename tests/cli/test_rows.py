"""Rows from files, and prompts."""

from __future__ import annotations

import sys

import pytest

from sepo.cli.rows import read_prompts, read_rows

ROWS = [{"prompt": "a", "weight": 1, "score": 0.5}, {"prompt": "b", "weight": 2, "score": 1.5}]


def test_all_kinds_of_files_hold_the_same_rows(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "rows.csv").write_text("prompt,weight,score\na,1,0.5\nb,2,1.5\n")
    (tmp_path / "rows.json").write_text('[{"prompt":"a","weight":1,"score":0.5},{"prompt":"b","weight":2,"score":1.5}]')
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt":"a","weight":1,"score":0.5}\n\n{"prompt":"b","weight":2,"score":1.5}\n'
    )
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    for ending in ("csv", "json", "jsonl", "parquet"):
        assert read_rows(f"rows.{ending}") == ROWS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.csv", None, "dataset 'gone.csv': there is no such file."),
        ("rows.json", "{}", "dataset 'rows.json' cannot be read: its rows must be JSON objects"),
        ("rows.jsonl", "{", "dataset 'rows.jsonl' cannot be read: "),
        ("rows.jsonl", "\n", "dataset 'rows.jsonl' has no rows: give at least one."),
        ("rows.csv", "a,b\n1\n", "a row has more or fewer cells than the header has names"),
        ("rows.parquet", "x", "dataset 'rows.parquet' cannot be read: "),
        ("rows.xls", "x", "its ending is none of .csv, .json, .jsonl, .parquet."),
    ],
)
def test_a_file_that_holds_no_rows_says_why(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as raised:
        read_rows(name)
    assert message in str(raised.value)


def test_a_name_without_the_hub_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="is no file here; the hub needs the package datasets"):
        read_rows("org/data")


def test_prompts_are_the_lines_of_a_text_file(tmp_path):
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\n")
    assert read_prompts("prompts.txt") == [{"prompt": "one"}, {"prompt": "two"}]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="holds no prompts"):
        read_prompts("empty.txt")
