"""From the name of a reading to the object, where process and sampler allow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sepo.diffusion.process import Absorbing, Process
from sepo.objectives.readings import FIXED, READINGS, Transitions, Where
from sepo.samplers import KernelSampler, Sampler


def chosen(option: str, value: str, table: Mapping[str, Any]) -> Any:
    """table[value], or an error that lists what there is."""
    if value not in table:
        raise ValueError(f"{option}={value!r}: choose one of {', '.join(table)}.")
    return table[value]


def reading_named(asked: str | None, states: int | None, process: Process | None, sampler: Sampler) -> Where:
    """asked: None: that of the path that the sampler takes; process=None: of masks.

    Raises:
        ValueError: there is no such reading, or it does not fit the process or the sampler.
    """
    fills_once = (process is None or isinstance(process, Absorbing)) and not sampler.revisits
    name = asked or ("next_site" if fills_once else "transitions")
    _require_fitting(name, process, fills_once)
    if name == "transitions":
        if not isinstance(sampler, KernelSampler):
            raise ValueError(
                f"reading='transitions' needs a sampler with a kernel, such as ancestral, and {type(sampler).__name__} "
                "has none; choose another sampler or reading='next_site'."
            )
        return Transitions(sampler.kernel, states)
    if name in FIXED:
        return FIXED[name]()
    return chosen("reading", name, {**READINGS, **FIXED, "transitions": None})(states)


OF_PATHS = ("next_site", "all_sites", "merged")
OF_ANY_PROCESS = ("transitions", "fresh_noise", "clean_score", "raw_logits")


def _require_fitting(name: str, process: Process | None, fills_once: bool) -> None:
    """
    Raises:
        ValueError: the reading is of masks and the process has none, or of paths that this sampler does not take.
    """
    if process is not None and not isinstance(process, Absorbing) and name not in OF_ANY_PROCESS:
        raise ValueError(
            f"reading={name!r} is of masked sites, but the model's process is {type(process).__name__}; choose one of "
            f"{', '.join(OF_ANY_PROCESS)}, or leave reading out."
        )
    if name in OF_PATHS and not fills_once:
        raise ValueError(
            f"reading={name!r} is of paths that fill each mask once, but this sampler visits sites again; leave "
            "reading out, or choose transitions or fresh_masks."
        )
