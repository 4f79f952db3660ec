"""Arrays that a stage makes, kept in files as long as all that they rest on is the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepo.runs.plain import plain, read_json, replacing, write_json

Costs = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Kept:
    """costs: what making it took, its seconds among them."""

    array: np.ndarray
    costs: dict[str, Any]


def kept(path: Path, rests_on: Mapping[str, Any], make: Callable[[], tuple[np.ndarray, Costs]]) -> Kept:
    """The array in `path` (.npy) if it rests on the same, else one that is made now; what it rests on is beside it."""
    noted, now = path.with_suffix(".json"), plain(rests_on, path.stem)
    if noted.is_file() and path.is_file():
        before = read_json(noted)
        if before["rests_on"] == now:
            return Kept(np.load(path), before["costs"])
    started = time.monotonic()
    array, costs = make()
    costs = {**costs, "seconds": round(time.monotonic() - started, 2)}
    noted.unlink(missing_ok=True)  # it would say of the new array what the former rested on
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)
    write_json(noted, {"rests_on": now, "costs": costs})
    return Kept(array, costs)
