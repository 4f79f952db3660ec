"""Records of a benchmark in one JSON file: written after every cell, so that a run that was stopped goes on there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Cells:
    """A cell is what its `key` names, such as a world and a method; it may have several records.

    A cell measured with other settings is measured again, and replaced; cells that are not asked for stay.
    """

    def __init__(self, path: Path, key: Sequence[str], settings: Record) -> None:
        self.path, self.key, self.settings = path, tuple(key), settings
        self.records: list[Record] = json.loads(path.read_text()) if path.is_file() else []

    def has(self, *cell: str) -> bool:
        return any(self._is(record, cell) and record["settings"] == self.settings for record in self.records)

    def put(self, *cell: str, records: list[Record]) -> None:
        new = [dict(zip(self.key, cell, strict=True)) | record | {"settings": self.settings} for record in records]
        self.records = [record for record in self.records if not self._is(record, cell)] + new
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half_written = self.path.with_suffix(".writing")
        half_written.write_text(json.dumps(self.records, indent=1))
        half_written.replace(self.path)

    def where(self, **fields: Any) -> list[Record]:
        return [record for record in self.records if all(record[name] == value for name, value in fields.items())]

    def _is(self, record: Record, cell: tuple[str, ...]) -> bool:
        return tuple(record[name] for name in self.key) == cell
