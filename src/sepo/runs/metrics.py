"""metrics.jsonl: one JSON object per logged step, appended; a kill costs at most the line being written."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sepo.runs.completions import drop_completions_after
from sepo.runs.folder import RunFolder
from sepo.runs.plain import numbers_back, plain, replacing, to_json


def log_metrics(run: RunFolder, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends `{"step": step, **metrics}` to metrics.jsonl and hands it to the disk before it returns.

    Raises:
        ValueError: if a metric is not plain data, or is named `step` and says another step.
    """
    if metrics.get("step", step) != step:
        raise ValueError(
            f"the metrics of step {step} hold a metric 'step' of {metrics['step']!r}; give it another name."
        )
    line = to_json(plain({"step": step, **metrics}, "metrics")) + "\n"
    _end_last_line(run.metrics)
    with open(run.metrics, "ab") as file:
        file.write(line.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def read_metrics(run: RunFolder) -> list[dict[str, Any]]:
    """The logged steps in the order they were logged; empty if none was. A truncated last line is left out.

    Raises:
        ValueError: if a line before the last is damaged, naming the line.
    """
    return [numbers_back(record) for _, record in _lines(run.metrics)]


def resume_run(run: RunFolder, step: int) -> None:
    """Makes the folder what it was after `step`: later lines of metrics.jsonl and later completions are dropped.

    The lines that stay keep their bytes. Nothing happens if nothing was logged later.
    """
    if run.metrics.is_file():
        kept = [raw for raw, record in _lines(run.metrics) if record["step"] <= step]
        with replacing(run.metrics) as temporary:
            temporary.write_bytes(b"".join(raw + b"\n" for raw in kept))
    drop_completions_after(run, step)


def curve(metrics: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric, where it was logged as a number; NaN and infinities stay in."""
    steps, values = [], []
    for record in metrics:
        value = record.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            steps.append(record["step"])
            values.append(float(value))
    return steps, values


def metric_names(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the metrics with finite values at two steps or more, in the order they first appeared."""
    names = dict.fromkeys(name for record in metrics for name in record if name != "step")
    return [name for name in names if len(_finite_steps(metrics, name)) > 1]


def _finite_steps(metrics: Sequence[Mapping[str, Any]], name: str) -> set[int]:
    return {step for step, value in zip(*curve(metrics, name), strict=True) if math.isfinite(value)}


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The good lines with their bytes; only a last line without its newline may be damaged."""
    if not path.is_file():
        return []
    *ended, last = path.read_bytes().split(b"\n")
    found = []
    for number, raw in enumerate(ended, start=1):
        record = _record(raw)
        if record is None:
            raise ValueError(
                f"{path}, line {number} is damaged: expected a JSON object with an integer 'step', found {raw[:60]!r}. "
                "Delete that line."
            )
        found.append((raw, record))
    record = _record(last)
    return found if record is None else [*found, (last, record)]


def _record(raw: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(raw)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _end_last_line(path: Path) -> None:
    """Ends a last line that lacks its newline; one that a kill left truncated is cut off."""
    if not path.is_file() or not path.stat().st_size:
        return
    with open(path, "rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        start = content.rfind(b"\n") + 1
        if _record(content[start:]) is None:
            file.truncate(start)
        else:
            file.write(b"\n")
