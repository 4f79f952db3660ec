"""Completions: columns as TRL has them, parquet and the console table."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from rich.console import Console

from sepo.runs import (
    Completions,
    RunFolder,
    completion_steps,
    print_completions,
    read_completions,
    start_run,
    write_completions,
)
from sepo.runs.completions import brief


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return start_run(tmp_path, {})


def completions(step: int = 5, **changes: Any) -> Completions:
    fields: dict[str, Any] = {
        "prompts": ["a", "b", None],
        "completions": ["x", "y <z>", ""],
        "rewards": {"forest": [0.5, None, 1], "length": [1, 2, 3]},
        "advantages": [0.0, -1.0, 1.0],
        "extras": {"answer": ["p", "q", "r"]},
    }
    return Completions(step, **(fields | changes))


def test_the_columns_of_the_file_are_those_of_trl(run: RunFolder):
    path = write_completions(run, completions())
    assert path.name == "completions_00005.parquet"
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == ["step", "prompt", "completion", "forest", "length", "answer", "advantage"]
    assert frame["step"].tolist() == [5, 5, 5]
    assert frame["length"].tolist() == [1, 2, 3]
    assert frame["forest"].isna().tolist() == [False, True, False]


def test_completions_are_read_as_they_were_written(run: RunFolder):
    write_completions(run, completions())
    assert read_completions(run) == completions()
    assert read_completions(run, 5) == completions()


def test_without_a_step_the_last_completions_are_read(run: RunFolder):
    for step in (100_000, 7, 30):
        write_completions(run, completions(step))
    assert completion_steps(run) == [7, 30, 100_000]
    assert read_completions(run).step == 100_000


def test_arrays_and_chats_keep_their_structure(run: RunFolder):
    chat = [{"role": "user", "content": "hi"}]
    given = completions(prompts=[chat] * 3, completions=[np.arange(4), np.arange(4) + 1, np.arange(4) + 2])
    write_completions(run, given)
    back = read_completions(run)
    assert back.prompts == [chat] * 3
    assert back.completions == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]


def test_a_column_of_mixed_kinds_is_stored_as_json_text(run: RunFolder):
    write_completions(run, completions(extras={"mixed": ["text", 4, {"a": [1]}]}))
    assert read_completions(run).extras["mixed"] == ["text", "4", '{"a": [1]}']


def test_an_empty_batch_is_stored_and_read(run: RunFolder):
    empty = Completions(0, [], [], {"forest": []}, [])
    write_completions(run, empty)
    assert read_completions(run) == empty


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ["a"]}, "column 'prompt' has 1 rows and there are 3 completions"),
        ({"rewards": {"forest": [1.0]}}, "column 'forest' has 1 rows"),
        ({"advantages": []}, "column 'advantage' has 0 rows"),
        ({"rewards": {"completion": [1, 2, 3]}}, "'completion' would name two columns"),
        ({"extras": {"forest": [1, 2, 3]}}, "'forest' would name two columns"),
    ],
)
def test_columns_that_do_not_fit_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        completions(**changes)


def test_a_step_without_completions_names_the_steps_that_have_them(run: RunFolder):
    with pytest.raises(ValueError, match="holds no completions: log_completions was off"):
        read_completions(run)
    write_completions(run, completions(5))
    with pytest.raises(ValueError, match="no completions of step 6: there are those of steps 5"):
        read_completions(run, 6)


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense"])
def test_a_damaged_file_is_named(run: RunFolder, content: bytes):
    write_completions(run, completions(5)).write_bytes(content)
    with pytest.raises(ValueError, match=r"completions_00005\.parquet is not a table of completions"):
        read_completions(run)


def test_a_table_from_elsewhere_is_named(run: RunFolder):
    path = write_completions(run, completions(5))
    pandas.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"completions_00005\.parquet is not a table of completions"):
        read_completions(run)


def test_without_pyarrow_the_error_names_the_extra(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    imported = builtins.__import__

    def without_pyarrow(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return imported(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(ValueError, match=r"pip install pyarrow \(extra `demo`\), or set save_completions=False"):
        write_completions(run, completions())
    assert completion_steps(run) == []


def printed(given: Completions, number: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    print_completions(given, number, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_console_table_shows_rewards_with_two_digits_and_those_that_did_not_apply_as_a_dash():
    text = printed(completions())
    for expected in ("Step 5", "Prompt", "Completion", "forest", "length", "Advantage", "0.50", "-1.00", "–", "y <z>"):
        assert expected in text


def test_the_rows_printed_are_spread_over_the_batch():
    rows = 9
    many = Completions(0, [None] * rows, [f"completion{row}" for row in range(rows)], {}, [0.0] * rows)
    text = printed(many, 3)
    assert [row for row in range(rows) if f"completion{row}" in text] == [0, 4, 8]


def test_more_rows_than_there_are_prints_all_and_none_prints_nothing():
    assert printed(completions(), 99).count("│ │") >= 3
    assert printed(completions(), 0) == ""
    assert printed(Completions(0, [], [], {}, [])) == ""


def test_square_brackets_in_a_completion_are_not_markup():
    assert "[bold]loud[/bold]" in printed(completions(completions=["[bold]loud[/bold]", "y", "z"]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        ("text", "text"),
        (np.array([3, 1, 2]), "[3 1 2] (3)"),
        (np.arange(64).reshape(8, 8), "[0 1 2 3 4 5 6 7 … 61 62 63] (8 × 8)"),
        ([0.5, 0.25], "[0.5 0.25] (2)"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "user: hi\nassistant: ho"),
        (7, "7"),
        (["a", "b"], "['a', 'b']"),
    ],
)
def test_a_completion_of_any_kind_is_shown_briefly(value: Any, shown: str):
    assert brief(value) == shown
