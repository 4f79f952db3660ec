"""The run folder: the plain files that a run leaves behind.

    config.yaml       the resolved settings
    metrics.jsonl     one JSON object per logged step
    completions/      completions_00000.parquet, one file per logging event, numbered by step
    summary.json      the figures of the finished run
    report.json       the sections of its report, with the pictures under samples/ and figures/
    report.html       the report, made from the files above

Only the main process writes into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sepo.runs.plain import numbers_back, plain, read_json, write_json, write_text

OWN = (
    "config.yaml",
    "metrics.jsonl",
    "completions",
    "samples",
    "figures",
    "summary.json",
    "report.json",
    "report.html",
)


@dataclass(frozen=True)
class RunFolder:
    """Where the files of one run lie."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def completions(self) -> Path:
        return self.path / "completions"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def sections(self) -> Path:
        return self.path / "report.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def is_run(self) -> bool:
        return self.config.is_file() or self.metrics.is_file()


def start_run(path: str | Path, config: Mapping[str, Any]) -> RunFolder:
    """A fresh run in `path`: the folder with its config.yaml.

    An earlier run's files in the same folder are moved to `earlier-000`, `earlier-001`, ...: nothing is mixed, nothing
    is lost. Checkpoints are not touched.

    Raises:
        ValueError: if `path` is a file, or the config holds something that is not plain data.
    """
    run = RunFolder(Path(path))
    if run.path.exists() and not run.path.is_dir():
        raise ValueError(f"{run.path} is a file, and a run needs a folder; choose another output folder.")
    text = _yaml(config)
    run.path.mkdir(parents=True, exist_ok=True)
    if run.metrics.is_file() and run.metrics.stat().st_size:
        _set_aside(run)
    write_text(run.config, text)
    return run


def open_run(path: str | Path) -> RunFolder:
    """The run in an existing folder.

    Raises:
        ValueError: if the folder is missing or holds no run, naming what is missing and what to do.
    """
    run = RunFolder(Path(path))
    if not run.path.is_dir():
        what = "it is a file" if run.path.exists() else "there is no such folder"
        raise ValueError(f"{path} is not a run: {what}. Name the folder that a run wrote (its output_dir).")
    if not run.is_run:
        inside = sorted(child.name for child in run.path.iterdir() if child.is_dir() and RunFolder(child).is_run)
        hint = f" These folders in it are runs: {', '.join(inside)}." if inside else ""
        raise ValueError(
            f"{path} is not a run: it holds neither config.yaml nor metrics.jsonl. "
            f"Name the folder that a run wrote (its output_dir).{hint}"
        )
    return run


def read_config(run: RunFolder) -> dict[str, Any]:
    """The resolved settings.

    Raises:
        ValueError: if config.yaml is missing or is not a YAML mapping.
    """
    if not run.config.is_file():
        raise ValueError(f"{run.path} has no config.yaml, so its settings are not known; restore it from the recipe.")
    try:
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{run.config} is not YAML ({_one_line(error)}); restore it from the recipe.") from error
    if not isinstance(config, dict):
        raise ValueError(
            f"{run.config} holds a {type(config).__name__}, not names with values; restore it from the recipe."
        )
    return config


def write_summary(run: RunFolder, summary: Mapping[str, Any]) -> None:
    """Writes summary.json, the figures of the finished run, whole or not at all."""
    write_json(run.summary, summary)


def read_summary(run: RunFolder) -> dict[str, Any]:
    """The figures of the finished run.

    Raises:
        ValueError: if there are none yet, or the file does not hold a JSON object.
    """
    if not run.summary.is_file():
        raise ValueError(f"{run.path} has no summary.json: the run has not finished. Resume it, or read metrics.jsonl.")
    summary = read_json(run.summary)
    if not isinstance(summary, dict):
        raise ValueError(f"{run.summary} holds a {type(summary).__name__}, not an object; delete it and run again.")
    return numbers_back(summary)


def write_config(run: RunFolder, config: Mapping[str, Any]) -> None:
    """Writes config.yaml whole or not at all."""
    write_text(run.config, _yaml(config))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(plain(config, "config"), sort_keys=False, allow_unicode=True, width=120)


def _set_aside(run: RunFolder) -> None:
    number = 0
    while (run.path / f"earlier-{number:03d}").exists():
        number += 1
    earlier = run.path / f"earlier-{number:03d}"
    earlier.mkdir()
    for name in OWN:
        if (run.path / name).exists():
            (run.path / name).rename(earlier / name)
