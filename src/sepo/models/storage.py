"""A folder that changes as a whole: what a kill or a full disk leaves is the state before or the state after.

New files are written to a staging folder inside; renaming that to `.sepo-commit` is the moment of change; then its
files move to their places. A process that finds an unfinished move finishes it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
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
def replacing(folder: Path) -> Iterator[Path]:
    """A staging folder to write files into; when the block ends they replace those of the same name in `folder`.

    When there are weights among them, weight files of a former checkpoint that the new one lacks are removed; all other
    files are left alone. When the block raises, `folder` stays as it was.
    """
    settle(folder)
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        names = sorted(str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file())
        (staging / MANIFEST).write_text(json.dumps(names))
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
    names = json.loads(manifest.read_text()) if manifest.is_file() else None
    if names is not None:
        new_weights = any("/" not in name and name.endswith(".safetensors") for name in names)
        for name in names:
            if (commit / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(commit / name, folder / name)
        for pattern in WEIGHTS if new_weights else ():
            for path in folder.glob(pattern):
                if path.name not in names:
                    path.unlink()
    shutil.rmtree(commit)
