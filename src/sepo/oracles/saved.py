"""Ensembles in folders: member_0, member_1, ..., each as `save_pretrained` writes it, with a note of its making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sepo.models.opening import accept, quiet
from sepo.models.storage import replacing, settle
from sepo.oracles.network import ConvOracle
from sepo.oracles.oracle import Ensemble
from sepo.runs.plain import read_json, write_json

FOLDER = "member_{}"
MEMBERS = FOLDER.format("*")
MADE = "made.json"


@dataclass(frozen=True)
class Made:
    """How a member came to be. fit: the settings; data: what tells the sequences and numbers from any others; seconds:
    that it took.
    """

    fit: Mapping[str, Any]
    data: str
    seconds: float


def save_oracle(oracle: Ensemble, folder: Path, made: Sequence[Made] = ()) -> None:
    """In place of all members that were saved there; a kill leaves those or these. made: of each member."""
    with replacing(folder, [MEMBERS]) as staging:
        for number, member in enumerate(oracle.members):
            _write(member, staging / FOLDER.format(number), made[number] if made else None)


def save_member(member: ConvOracle, place: Path, made: Made) -> None:
    """A folder of its own, whole or not at all."""
    with replacing(place) as staging:
        _write(member, staging, made)


def load_oracle(folder: Path | str, doubt: float = 0.0, device: torch.device | str | None = None) -> Ensemble:
    """On the CPU without a device.

    Raises:
        ValueError: no oracle was saved there, or one whose weights are not those of its architecture as it is now.
    """
    places = members_in(folder)
    if not places:
        raise ValueError(f"{folder} holds no oracle: `sepo design` fits one there, or name another folder.")
    return Ensemble([load_member(place) for place in places], doubt).to(device or "cpu")


def members_in(folder: Path | str) -> list[Path]:
    """The folders of an ensemble's members; none if it is no folder of an ensemble."""
    if Path(folder).is_dir():
        settle(Path(folder))
    return sorted(Path(folder).glob(MEMBERS))


def made_of(place: Path) -> Made | None:
    """How a member was made; None: it is not there, or nobody noted it."""
    if not place.is_dir():
        return None
    settle(place)
    note = place / MADE
    return Made(**read_json(note)) if note.is_file() else None


def load_member(place: Path) -> ConvOracle:
    """Complete: transformers fills a hole with noise and only warns of it.

    Raises:
        ValueError: a file is missing or cut short, or the weights are not those of the architecture as it is now.
    """
    try:
        with quiet(compared=True):
            opened: Any = ConvOracle.from_pretrained(place, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"The oracle in {place} cannot be opened: {error} Delete {place.parent}, and fit it again."
        ) from error
    network, report = opened
    try:
        accept(report, place, "ConvOracle", complete=True)
    except ValueError as error:
        raise ValueError(
            f"{error} An oracle of another version has to be fitted again: delete {place.parent}."
        ) from error
    return network


def _write(member: Any, place: Path, made: Made | None) -> None:
    with quiet():
        member.save_pretrained(place)
    if made is not None:
        write_json(place / MADE, made)
