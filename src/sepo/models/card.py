"""The card of a checkpoint: `sepo.json`, which says how the numbers of the network beside it are to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import LeaveOneOut, Meaning, Posterior, Score
from sepo.diffusion.process import PROCESSES, Process
from sepo.diffusion.schedule import SCHEDULES, Schedule
from sepo.models.families import FAMILIES

NAME = "sepo.json"
FORMAT = 1
MEANINGS: dict[str, type] = {"posterior": Posterior, "score": Score, "leave_one_out": LeaveOneOut}
T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """What a Denoiser knows beyond its network. base: of an adapter, the checkpoint that it belongs to, and
    base_options: how that was loaded.

    `base` is a folder (relative ones are looked for beside the card) or a hub id.
    """

    family: str
    process: Process
    meaning: Meaning = Posterior()  # noqa: RUF009 (frozen)
    banned: tuple[int, ...] = ()
    time_free: bool = True
    length: int | None = None
    base: str | None = None
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    base_options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        described: dict[str, Any] = {
            "format": FORMAT,
            "family": self.family,
            "process": _describe(self.process, PROCESSES, without="schedule"),
            "schedule": _describe(self.process.schedule, SCHEDULES),
            "meaning": _describe(self.meaning, MEANINGS),
            "banned": list(self.banned),
            "time_free": self.time_free,
            "length": self.length,
        }
        if self.base is not None:
            described["base"] = self.base
        if self.base_options:
            described["base_options"] = dict(self.base_options)
        if any(self.frame):
            described["frame"] = self.frame
        return json.dumps(described, indent=2) + "\n"


def card_of(
    denoiser: Denoiser, family: str, base: str | None = None, base_options: Mapping[str, Any] | None = None
) -> Card:
    """The card of a denoiser whose network is of `family`."""
    return Card(
        family,
        denoiser.process,
        denoiser.meaning,
        denoiser.banned,
        denoiser.time_free,
        denoiser.length,
        base,
        denoiser.frame,
        base_options or {},
    )


def read_card(path: Path) -> Card:
    """
    Raises:
        ValueError: the file is not JSON, of a newer format, or its content is not a card's.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not readable as JSON ({error}); restore it from the original checkpoint."
        ) from error
    if not isinstance(described, dict) or not isinstance(described.get("format"), int):
        raise ValueError(f"{path} has no integer under 'format': it is not the card of a sepo checkpoint.")
    if described["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {described['format']} but this version of sepo reads formats up to {FORMAT}: "
            "upgrade it with `pip install --upgrade sepo`."
        )
    try:
        return _card(described)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error.args[0]!r} is missing or has a value of the wrong type.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _card(described: dict[str, Any]) -> Card:
    unknown = set(described) - {"format", "schedule"} - {field.name for field in fields(Card)}
    if unknown:
        raise ValueError(f"unknown entries {sorted(unknown)}; a card of format {FORMAT} has none of these.")
    if described["family"] not in FAMILIES:
        raise ValueError(f"unknown family {described['family']!r}; the known ones are {', '.join(FAMILIES)}.")
    schedule: Schedule = _build("schedule", described["schedule"], SCHEDULES)
    length, base = described["length"], described.get("base")
    if not (length is None or isinstance(length, int)) or not (base is None or isinstance(base, str)):
        raise ValueError(f"length={length!r} must be an integer or null, base={base!r} a text or absent.")
    return Card(
        family=described["family"],
        process=_build("process", described["process"], PROCESSES, schedule=schedule),
        meaning=_build("meaning", described["meaning"], MEANINGS),
        banned=tuple(int(token) for token in described["banned"]),
        time_free=bool(described["time_free"]),
        length=length,
        base=base,
        base_options=dict(described.get("base_options", {})),
        frame=_frame(described.get("frame", ((), ()))),
    )


def _frame(described: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before, behind = described
    return tuple(int(token) for token in before), tuple(int(token) for token in behind)


def _describe(option: Any, table: dict[str, Any], without: str | None = None) -> dict[str, Any]:
    """An option object as plain data: its row in the table and its fields."""
    kinds = [name for name, kind in table.items() if type(option) is kind]
    if not kinds:
        raise ValueError(f"{option!r} cannot be stored: it is none of {', '.join(table)}.")
    return {"kind": kinds[0]} | {name: value for name, value in asdict(option).items() if name != without}


def _build(what: str, described: dict[str, Any], table: dict[str, type[T]], **more: Any) -> T:
    """The option object that `_describe` described."""
    arguments = dict(described)
    kind = arguments.pop("kind")
    if kind not in table:
        raise ValueError(f"unknown {what} {kind!r}; the known ones are {', '.join(table)}.")
    try:
        return table[kind](**arguments, **more)
    except TypeError as error:
        raise ValueError(f"{what} {described!r}: {error}.") from error
