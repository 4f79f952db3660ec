"""Completions: what a model answered, what it was worth; a parquet file per logging event, and a console table.

The columns are TRL's: step, prompt, completion, one per reward, one per extra, advantage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sepo.runs.folder import RunFolder
from sepo.runs.plain import plain, replacing, to_json

RESERVED = ("step", "prompt", "completion", "advantage")
ROLES = b"sepo"


@dataclass(frozen=True)
class Completions:
    """One logging event: row by row a prompt, its completion, its rewards and its advantage.

    Prompts and completions are strings, chats (lists of messages), token arrays or, for prompts, None. A reward of None
    is one that did not apply.
    """

    step: int
    prompts: Sequence[Any]
    completions: Sequence[Any]
    rewards: Mapping[str, Sequence[float | int | None]]
    advantages: Sequence[float | int | None]
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.completions)
        for name, column in self.columns().items():
            if len(column) != rows:
                raise ValueError(
                    f"column {name!r} has {len(column)} rows and there are {rows} completions; give one each."
                )
        names = [*RESERVED, *self.rewards, *self.extras]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"{', '.join(map(repr, double))} would name two columns of the completions; rename one.")

    def columns(self) -> dict[str, Sequence[Any]]:
        """The table, column by column, in the order it is stored."""
        return {
            "step": [self.step] * len(self.completions),
            "prompt": self.prompts,
            "completion": self.completions,
            **self.rewards,
            **self.extras,
            "advantage": self.advantages,
        }

    def __len__(self) -> int:
        return len(self.completions)


def write_completions(run: RunFolder, completions: Completions) -> Path:
    """Writes completions/completions_<step>.parquet whole or not at all, and returns its path.

    Arrays become lists; a column that parquet cannot type (rows of different kinds) is stored as JSON text.

    Raises:
        ValueError: if pyarrow is missing.
    """
    arrow, parquet = _arrow()
    columns = {name: _column(arrow, name, values) for name, values in completions.columns().items()}
    roles = to_json({"rewards": list(completions.rewards), "extras": list(completions.extras)})
    table = arrow.table(columns).replace_schema_metadata({ROLES: roles.encode()})
    path = run.completions / f"completions_{completions.step:05d}.parquet"
    with replacing(path) as temporary:
        parquet.write_table(table, temporary)
    return path


def completion_steps(run: RunFolder) -> list[int]:
    """The steps whose completions were logged, ascending."""
    found = [re.fullmatch(r"completions_(\d+)\.parquet", path.name) for path in run.completions.glob("*.parquet")]
    return sorted(int(match[1]) for match in found if match)


def read_completions(run: RunFolder, step: int | None = None) -> Completions:
    """The completions logged at `step`; without it, at the last one.

    Raises:
        ValueError: if none were logged (then), if the file is damaged, or if pyarrow is missing.
    """
    steps = completion_steps(run)
    if not steps or (step is not None and step not in steps):
        when = "" if step is None else f" of step {step}"
        known = f"there are those of steps {', '.join(map(str, steps))}" if steps else "log_completions was off"
        raise ValueError(f"{run.path} holds no completions{when}: {known}.")
    path = run.completions / f"completions_{steps[-1] if step is None else step:05d}.parquet"
    arrow, parquet = _arrow()
    try:
        table = parquet.ParquetFile(path).read()
        roles = json.loads(table.schema.metadata[ROLES])
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
        return Completions(
            step=steps[-1] if step is None else step,
            prompts=columns["prompt"],
            completions=columns["completion"],
            rewards={name: columns[name] for name in roles["rewards"]},
            advantages=columns["advantage"],
            extras={name: columns[name] for name in roles["extras"]},
        )
    except (arrow.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a table of completions ({error}); delete it.") from error


def drop_completions_after(run: RunFolder, step: int) -> None:
    """Deletes the completions of later steps."""
    for later in completion_steps(run):
        if later > step:
            (run.completions / f"completions_{later:05d}.parquet").unlink()


def print_completions(completions: Completions, number: int | None = None, console: Console | None = None) -> None:
    """Prints `number` rows (None: all), spread evenly over the batch, as a table with one colour per kind of column."""
    rows = len(completions) if number is None else max(0, min(number, len(completions)))
    if not rows:
        return
    table = Table(show_header=True, header_style="bold", expand=True, show_lines=True)
    table.add_column("Prompt", style="bright_yellow", ratio=2)
    table.add_column("Completion", style="bright_green", ratio=3)
    for name in completions.rewards:
        table.add_column(name, style="bold cyan", justify="right")
    table.add_column("Advantage", style="bold magenta", justify="right")
    for row in np.linspace(0, len(completions) - 1, rows).round().astype(int).tolist():
        rewards = [_two_digits(column[row]) for column in completions.rewards.values()]
        table.add_row(
            Text(brief(completions.prompts[row])),
            Text(brief(completions.completions[row])),
            *rewards,
            _two_digits(completions.advantages[row]),
        )
    (console or Console()).print(Panel(table, title=f"Step {completions.step}", border_style="bold white"))


def brief(value: Any) -> str:
    """A prompt or completion in a few words: text as it is, a chat message by message, an array as `[0 3 … 7] (64)`."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, Mapping) for part in value):
        return "\n".join(f"{part.get('role', '?')}: {brief(part.get('content'))}" for part in value)
    flat = np.asarray(value)
    if flat.dtype.kind not in "biuf" or not flat.ndim:
        return str(value)
    shape = " × ".join(map(str, flat.shape))
    items = [f"{entry:g}" for entry in flat.ravel().tolist()]
    if len(items) > 12:
        items = [*items[:8], "…", *items[-3:]]
    return f"[{' '.join(items)}] ({shape})"


def _two_digits(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _column(arrow: ModuleType, name: str, values: Sequence[Any]) -> Any:
    stored = [plain(value, f"{name}[{row}]") for row, value in enumerate(values)]
    try:
        return arrow.array(stored)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError):
        return arrow.array([value if value is None or isinstance(value, str) else to_json(value) for value in stored])


def _arrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            "completions are stored as parquet, which needs pyarrow: pip install pyarrow (extra `demo`), "
            "or set save_completions=False."
        ) from error
    return pyarrow, pyarrow.parquet
