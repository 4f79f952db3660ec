"""Pickled checkpoints, opened without running anything that they hold.

`torch.load(weights_only=True)` refuses what Lightning puts beside the tensors (configurations, tokenizers, paths).
Their classes are replaced by stand-ins that only keep what they are given: the packages are not needed, and none of
their code is run. A file that names anything outside those packages is refused.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

INERT = (
    *("omegaconf", "pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics", "hydra"),
    *("transformers", "tokenizers", "typing", "collections", "pathlib", "numpy", "datetime"),
)
"""Packages whose classes may be named in a checkpoint."""
DEEPEST, LARGEST = 40, 100_000
"""Levels and nodes of a configuration."""


def ordered(*arguments: Any) -> OrderedDict:
    """In place of a defaultdict, which torch fills no entries into."""
    return OrderedDict()


REAL: dict[str, Any] = {
    "collections.defaultdict": ordered,
    **{f"builtins.{kind.__name__}": kind for kind in (dict, list, set, tuple, int, float, str, bool)},
}
"""Containers, which are harmless as they are."""


class Inert:
    """Keeps what an object was built from."""

    arguments: tuple = ()
    state: Any = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments, self.state = arguments, named

    def __setstate__(self, state: Any) -> None:
        self.state = state


def unpickle(path: Path) -> Any:
    """What the file holds, tensors memory-mapped.

    Raises:
        ValueError: it is damaged, or names code of other packages than those of a training run.
    """
    try:
        named = set(get_unsafe_globals_in_checkpoint(path))
    except (RuntimeError, ValueError, pickle.UnpicklingError, OSError, EOFError) as error:
        raise ValueError(f"{path} is not a checkpoint that torch.save wrote, or is damaged ({error}).") from error
    foreign = sorted(name for name in named if name.split(".")[0] not in INERT and name not in REAL)
    if foreign:
        raise ValueError(
            f"{path} names {', '.join(foreign[:5])}, which no checkpoint of a known layout needs: it is not opened. "
            "If you know why, load it yourself and give the network to sepo.models.as_denoiser."
        )
    try:
        stand_ins: list[Any] = [(REAL.get(name) or _stand_in(name), name) for name in sorted(named)]
        with safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a file can be wrong in more ways than torch tells
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from error


def plain(value: Any, depth: int = 0, seen: list[int] | None = None) -> Any:
    """Stand-ins as plain data: OmegaConf keeps the children of a node in _content, and the value of a leaf in _val.

    Raises:
        ValueError: it is deeper or larger than any configuration is.
    """
    seen = [0] if seen is None else seen
    seen[0] += 1
    if depth > DEEPEST or seen[0] > LARGEST:
        raise ValueError("The file's configuration is nested without end: it is not opened.")
    if isinstance(value, Inert):
        state = value.state if isinstance(value.state, dict) else {}
        kept = state.get("_content", state.get("_val"))
        return None if kept is None else plain(kept, depth + 1, seen)
    if isinstance(value, dict):
        return {str(key): plain(each, depth + 1, seen) for key, each in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return [plain(each, depth + 1, seen) for each in value]
    return value


def _stand_in(name: str) -> type:
    return type(name.rsplit(".", 1)[-1], (Inert,), {})
