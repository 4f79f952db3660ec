"""A folder that changes as a whole: what a kill or a full disk leaves is the state before or the state after.

New files are written to a staging folder inside; renaming that to `.sepo-commit` is the moment of change; then its
files move to their places. A process that finds an unfinished move finishes it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STAGING = ".sepo-writing"
COMMIT = ".sepo-commit"
MANIFEST = "manifest.json"
WEIGHTS = (
    *("model*.safetensors", "model.safetensors.index.json", "adapter_model.safetensors", "adapter_config.json"),
    "critic.safetensors",
)


@contextmanager
def replacing(folder: Path, instead_of: Sequence[str] = ()) -> Iterator[Path]:
    """A staging folder to write files into; when the block ends they replace those of the same name in `folder`.

    instead_of: patterns of files and folders of which nothing is left but what is new. When there are weights among
    the new files, so it is with weight files of a former checkpoint. All other files are left alone. When the block
    raises, `folder` stays as it was.
    """
    settle(folder)
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        names = sorted(str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file())
        (staging / MANIFEST).write_text(json.dumps({"names": names, "instead_of": list(instead_of)}))
        for name in [*names, MANIFEST]:
            with open(staging / name, "rb") as file:
                os.fsync(file.fileno())
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    os.replace(staging, folder / COMMIT)
    settle(folder)


def settle(folder: Path) -> None:
    """Finishes a change that was committed but whose files have not all moved to their places."""
    commit = folder / COMMIT
    if not commit.is_dir():
        return
    manifest = commit / MANIFEST
    told = json.loads(manifest.read_text()) if manifest.is_file() else None
    if told is not None:
        names = told["names"]
        new_weights = any("/" not in name and name.endswith(".safetensors") for name in names)
        for name in names:
            if (commit / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(commit / name, folder / name)
        for pattern in (*told["instead_of"], *(WEIGHTS if new_weights else ())):
            for path in list(folder.glob(pattern)):
                _keep_only(names, path, folder)
    shutil.rmtree(commit)


def _keep_only(names: Sequence[str], path: Path, folder: Path) -> None:
    """Removes a file of `folder` that is none of `names`, and of a folder inside all such files."""
    if path.is_dir():
        for each in list(path.iterdir()):
            _keep_only(names, each, folder)
        if not any(path.iterdir()):
            path.rmdir()
    elif str(path.relative_to(folder)) not in names:
        path.unlink()
