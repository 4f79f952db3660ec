"""What a checkpoint holds beside transformers' own files, and which checkpoint is the last good one.

transformers writes `trainer_state.json` last. A folder without a readable one was being written when the run died: it
is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

REFERENCE = "reference.safetensors"


def save_stream(folder: Path, rank: int, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """One process's place in its stream: JSON, and the experience that is not used up."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / f"stream_{rank}.safetensors")
    (folder / f"stream_{rank}.json").write_text(json.dumps(state))


def load_stream(folder: Path, rank: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """
    Raises:
        ValueError: the checkpoint was saved without it (save_only_model), or by fewer processes.
    """
    path = folder / f"stream_{rank}.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} cannot be resumed by process {rank}: it has no {path.name}. It was saved with "
            "save_only_model=True or by fewer "
            "processes; resume with as many processes, or start a new run from its weights."
        )
    return json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))


def save_reference(folder: Path, network: nn.Module) -> None:
    save_model(network, str(folder / REFERENCE))


def load_reference(folder: Path, network: nn.Module) -> None:
    load_model(network, folder / REFERENCE)


def is_complete(folder: Path) -> bool:
    """Whether the folder was written to its end."""
    try:
        json.loads((folder / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def last_complete(output_dir: str | Path) -> Path | None:
    """The complete checkpoint with the highest step, None if there is none."""
    folders = [
        path for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[-1].isdigit()
    ]
    for folder in sorted(folders, key=lambda path: int(path.name.split("-")[-1]), reverse=True):
        if is_complete(folder):
            return folder
    return None
