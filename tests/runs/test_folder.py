"""The run folder: started, opened, read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sepo.runs import (
    log_metrics,
    open_run,
    read_config,
    read_metrics,
    read_summary,
    start_run,
    write_config,
    write_summary,
)


def test_a_run_starts_with_its_resolved_config_in_the_order_given(tmp_path: Path):
    run = start_run(
        tmp_path / "new" / "run", {"seed": 3, "beta": 1e-5, "name": "β", "nested": {"b": None, "a": [1, 2]}}
    )
    assert read_config(run) == {"seed": 3, "beta": 1e-5, "name": "β", "nested": {"b": None, "a": [1, 2]}}
    assert list(read_config(run)) == ["seed", "beta", "name", "nested"]
    assert "name: β" in run.config.read_text(encoding="utf-8")
    assert open_run(run.path) == run


def test_a_second_run_in_the_same_folder_moves_the_first_aside_and_leaves_checkpoints(tmp_path: Path):
    for number in range(3):
        run = start_run(tmp_path, {"number": number})
        log_metrics(run, 1, {"reward": number})
        (tmp_path / "checkpoint-1").mkdir(exist_ok=True)
    assert [record["reward"] for record in read_metrics(run)] == [2]
    assert (tmp_path / "checkpoint-1").is_dir()
    for number in range(2):
        earlier = open_run(tmp_path / f"earlier-00{number}")
        assert read_config(earlier) == {"number": number}
        assert read_metrics(earlier) == [{"step": 1, "reward": number}]


def test_a_start_that_logged_nothing_is_not_kept(tmp_path: Path):
    start_run(tmp_path, {"number": 0})
    start_run(tmp_path, {"number": 1})
    assert [child.name for child in tmp_path.iterdir()] == ["config.yaml"]


def test_a_config_that_cannot_be_stored_leaves_the_earlier_run_where_it_is(tmp_path: Path):
    log_metrics(start_run(tmp_path, {"number": 0}), 1, {"reward": 0})
    with pytest.raises(ValueError, match=r"config\.weight is of type Tensor"):
        start_run(tmp_path, {"weight": torch.zeros(2)})
    assert read_config(open_run(tmp_path)) == {"number": 0}
    assert not (tmp_path / "earlier-000").exists()


def test_a_run_cannot_start_where_a_file_is(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match=r"taken is a file.*another output folder"):
        start_run(tmp_path / "taken", {})


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere is not a run: there is no such folder"):
        open_run(tmp_path / "nowhere")


def test_a_file_is_not_a_run(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is not a run: it is a file"):
        open_run(tmp_path / "file")


def test_a_folder_without_a_run_says_what_is_missing_and_which_folders_in_it_are_runs(tmp_path: Path):
    start_run(tmp_path / "demo", {})
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"neither config\.yaml nor metrics\.jsonl.*in it are runs: demo\.$"):
        open_run(tmp_path)


def test_metrics_alone_make_a_run_and_its_missing_config_is_named(tmp_path: Path):
    log_metrics(start_run(tmp_path, {}), 0, {})
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"has no config\.yaml"):
        read_config(open_run(tmp_path))


@pytest.mark.parametrize("content", ["a: [", "- 1\n", "", "just words"])
def test_a_damaged_config_is_named(tmp_path: Path, content: str):
    run = start_run(tmp_path, {})
    run.config.write_text(content)
    with pytest.raises(ValueError, match=r"config\.yaml .*restore it"):
        read_config(run)


def test_a_config_can_be_replaced(tmp_path: Path):
    run = start_run(tmp_path, {"max_steps": 10})
    write_config(run, {"max_steps": 20})
    assert read_config(run) == {"max_steps": 20}


def test_a_summary_is_read_as_it_was_written(tmp_path: Path):
    run = start_run(tmp_path, {})
    write_summary(run, {"reward_after": 0.95, "path_kl": float("inf")})
    assert read_summary(run) == {"reward_after": 0.95, "path_kl": float("inf")}


def test_a_run_without_summary_has_not_finished(tmp_path: Path):
    with pytest.raises(ValueError, match="has not finished"):
        read_summary(start_run(tmp_path, {}))


def test_a_summary_that_is_no_object_is_named(tmp_path: Path):
    run = start_run(tmp_path, {})
    run.summary.write_text("[1]")
    with pytest.raises(ValueError, match=r"summary\.json holds a list"):
        read_summary(run)
