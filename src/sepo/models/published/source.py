"""Where published weights come from: a folder or a file, with names, shapes and tensors, whatever the format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from sepo.models.published.layout import Described
from sepo.models.published.pickled import plain, unpickle
from sepo.models.weights import INDEX, PICKLES, SINGLE, Shapes, nothing_in, read_json, shapes, shards_of

PICKLE_INDEX = "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class Source:
    """description: its configuration; shadow: the moving averages in the order of the parameters, where it has them;
    hyper_parameters: of a Lightning file, what can be said of them as plain data."""

    path: Path
    description: Described
    shapes: Shapes
    read: Callable[[str], Tensor]
    shadow: tuple[Tensor, ...] = ()
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)


def source_of(path: Path, pickles: bool) -> Source:
    """
    Raises:
        ValueError: there are no weights; they are pickled and `pickles` is False; a file is damaged.
    """
    folder = path if path.is_dir() else path.parent
    description = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if path.is_file() and path.suffix == ".safetensors":
        return _safetensors(path, {path.name: path}, description)
    if path.is_dir() and ((path / SINGLE).is_file() or (path / INDEX).is_file()):
        shapes(path)  # every shard is there, and whole
        names = [SINGLE] if (path / SINGLE).is_file() else shards_of(path / INDEX)
        return _safetensors(path, {name: path / name for name in names}, description)
    files = [path] if path.is_file() else _pickles_in(path)
    if not pickles:
        raise ValueError(
            f"{path} holds its weights as a pickle ({files[0].name}), a format that can run code when it is opened. It "
            "is read here without running any: if you trust where it comes from, say pickles=True (on the command "
            "line --model_init_kwargs.pickles true)."
        )
    return _pickled(path, files, description)


def _safetensors(where: Path, files: dict[str, Path], description: Described) -> Source:
    found: Shapes = {}
    home: dict[str, Path] = {}
    for path in files.values():
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                found[name], home[name] = tuple(file.get_slice(name).get_shape()), path

    def read(name: str) -> Tensor:
        with safe_open(home[name], framework="pt") as file:
            return file.get_tensor(name)

    return Source(where, description, found, read)


def _pickles_in(folder: Path) -> list[Path]:
    if (folder / PICKLE_INDEX).is_file():
        return [folder / name for name in shards_of(folder / PICKLE_INDEX)]
    files = sorted({path for pattern in PICKLES for path in folder.glob(pattern)})
    if not files:
        raise ValueError(nothing_in(folder))
    if len(files) > 1:
        raise ValueError(f"{folder} holds {', '.join(path.name for path in files)}: give the file that is meant.")
    return files


def _pickled(where: Path, files: list[Path], description: Described) -> Source:
    tensors: dict[str, Tensor] = {}
    shadow: tuple[Tensor, ...] = ()
    told: dict[str, Any] = {}
    for path in files:
        content = unpickle(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds {type(content).__name__} and not weights by name.")
        content = dict(dict.items(content))
        inner = content.get("state_dict", content.get("model", content))
        if isinstance(inner, dict):
            tensors |= {str(name): each for name, each in dict.items(inner) if isinstance(each, Tensor)}
        ema = content.get("ema")
        if isinstance(ema, dict):
            shadow = tuple(each for each in ema.get("shadow_params", ()) if isinstance(each, Tensor))
        described = plain(content.get("hyper_parameters", {}))
        if isinstance(described, dict):
            config = described.get("config")
            description = {**(config if isinstance(config, dict) else described), **description}
            told |= {name: value for name, value in described.items() if value is not None and _is_plain(value)}
    if not tensors:
        raise ValueError(f"{where} holds no weights by name.")
    found = {name: tuple(each.shape) for name, each in tensors.items()}
    return Source(where, description, found, tensors.__getitem__, shadow, told)


def _is_plain(value: Any) -> bool:
    """Whether a configuration can be written with it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
