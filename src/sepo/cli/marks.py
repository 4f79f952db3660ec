"""What the stages of `sepo design` rest on: files, told from any others by their hashes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from sepo.models.opening import PICKLED
from sepo.oracles import names_function
from sepo.oracles.saved import MEMBERS, members_in
from sepo.rewards.importing import source_of

QUALITY = "quality.json"
RESTS_ON = "rests_on.json"
BEFORE = "before.json"
"""How long a training took that was stopped."""
OF_A_RUN = (RESTS_ON, BEFORE, "summary.json", "run.json", "report.json", "evaluation.json", QUALITY)
"""Files of JSON beside a model that are none of it."""


def marks(paths: Iterable[Path]) -> dict[str, str]:
    """What tells files from any others."""
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in paths}


def files_of(name: str | None) -> list[Path]:
    """Of a file, or the model, the ensemble or the learned value in a folder; what is on the hub is taken to stay as it
    is."""
    place = Path(name or "").expanduser()
    if name is None or place.is_file():
        return [] if name is None else [place]
    weights = [*place.glob("*.safetensors"), *place.glob(f"{MEMBERS}/*.safetensors")] or [
        file for kind in PICKLED for file in place.glob(kind)
    ]
    return sorted([*weights, *(file for file in place.glob("*.json") if file.name not in OF_A_RUN)])


def marks_of(named: str) -> dict[str, str]:
    """What tells the files that a name leads to from any others: of a function, a checkpoint, a folder, a command.

    Of a function it is the file of its module alone, not those that it imports.
    """
    members = members_in(named)
    if members:
        files = [file for member in members for file in sorted(member.glob("*.safetensors"))]
    elif names_function(named):
        source = source_of(named)
        files = [] if source is None else [source]
    else:
        try:
            spoken = shlex.split(named)
        except ValueError as error:
            raise ValueError(
                f"The command {named!r} cannot be read: {error}. Close the quotation, or put a backslash before a "
                "quotation mark that is meant itself."
            ) from error
        words = [word if Path(word).is_file() else word.rpartition(":")[0] for word in spoken]
        files = [Path(word) for word in words if word and Path(word).is_file()]
    return marks(files)
