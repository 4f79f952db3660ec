"""What lies in a checkpoint folder: safetensors files, looked at by their headers before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.ckpt")
SHOWN = 5
Shapes = dict[str, tuple[int, ...]]


def read_json(path: Path) -> dict:
    """
    Raises:
        ValueError: the file does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not readable as JSON ({error}): it is damaged; copy it again from its source."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__} and not an object; copy it again from its source.")
    return content


def shapes(folder: Path) -> Shapes:
    """Name and shape of every tensor of the model in `folder`, from the headers of its safetensors files.

    Raises:
        ValueError: there is no such file (but perhaps a pickle), a shard is missing, or a file is damaged.
    """
    if (folder / SINGLE).is_file():
        return _header(folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise ValueError(nothing_in(folder))
    shards = shards_of(folder / INDEX)
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing or not shards:
        raise ValueError(
            f"{folder} lacks {_some(missing) or 'all files'} of those in {INDEX}: copy the checkpoint again."
        )
    found: Shapes = {}
    for shard in shards:
        found |= _header(folder / shard)
    return found


def shards_of(index: Path) -> list[str]:
    """The files that an index names, all of its own folder.

    Raises:
        ValueError: one of them lies elsewhere.
    """
    names = sorted({str(name) for name in read_json(index).get("weight_map", {}).values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ValueError(f"{index} names {outside[0]!r}, which is no file of its own folder: it is not opened.")
    return names


def adapter_shapes(folder: Path) -> Shapes:
    """The same for the adapter in `folder`."""
    if not (folder / ADAPTER).is_file():
        raise ValueError(nothing_in(folder))
    return _header(folder / ADAPTER)


def compare(where: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], who: str) -> None:
    """
    Raises:
        ValueError: tensors are missing, unexpected, or of another shape than the network's.
    """
    faults = []
    if missing := [name for name in wanted if name not in found]:
        faults.append(f"{len(missing)} tensors are missing ({_some(missing)})")
    if unexpected := [name for name in found if name not in wanted]:
        faults.append(f"{len(unexpected)} are unexpected ({_some(unexpected)})")
    other = [
        f"{name} {list(found[name])} instead of {list(wanted[name])}"
        for name in wanted
        if name in found and tuple(found[name]) != tuple(wanted[name])
    ]
    if other:
        faults.append(f"{len(other)} have another shape ({_some(other)})")
    if faults:
        raise ValueError(
            f"The weights in {where} do not fit {who} as its config.json describes it: {'; '.join(faults)}. They "
            "belong to another network, or config.json was changed: restore the pair that was saved together."
        )


def _header(path: Path) -> Shapes:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) is truncated or not a safetensors file ({error}): copy it again "
            "from its source, or use an earlier checkpoint."
        ) from error


def nothing_in(folder: Path) -> str:
    pickles = sorted({path.name for pattern in PICKLES for path in folder.glob(pattern)})
    if pickles:
        return (
            f"{folder} holds its weights as a pickle ({_some(pickles)}), which can run any code when it is opened; "
            "only safetensors files are loaded. If you trust the file, open it with transformers or "
            "torch.load(weights_only=True) and write it again with save_pretrained."
        )
    return f"{folder} is not a checkpoint: it has no {SINGLE}. Give a folder that save_pretrained has written."


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
