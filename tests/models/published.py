"""Checkpoints in their published form, with the weights of tests/models/references (README.md there)."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

FOLDER = Path(__file__).parent / "references"
FAMILIES = ("sedd", "mdlm", "udlm", "udlm_cfg", "dna_cnn", "dplm", "llada", "dream")


def reference(family: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{family}.json").read_text())


def weights(found: dict[str, Any]) -> dict[str, Tensor]:
    """By the formula; buffers and tied tensors as the file says."""
    tensors: dict[str, Tensor] = {}
    for name, shape in found["state_dict"].items():
        if name in found["buffers"]:
            tensors[name] = torch.tensor(found["buffers"][name])
        elif name not in found.get("tied", {}):
            tensors[name] = _formula(name, shape, found["scale"])
    for name, other in found.get("tied", {}).items():
        tensors[name] = tensors[other].clone()
    return tensors


def _formula(name: str, shape: list[int], scale: dict[str, float]) -> Tensor:
    wave = np.sin(0.7 * np.arange(math.prod(shape)) + zlib.crc32(name.encode()) % 1000)
    if len(shape) == 1 and name.endswith(".weight"):
        wave = 1 + scale["norm"] * wave
    else:
        wave = scale["vector" if len(shape) == 1 else "matrix"] * wave
    return torch.tensor(wave.reshape(shape), dtype=torch.float32)


def write(family: str, folder: Path) -> Path:
    """The checkpoint as it is published: config.json and safetensors; of the DNA network a Lightning file."""
    found = reference(family)
    if family == "dna_cnn":
        path = folder / "pretrained.ckpt"
        torch.save({"state_dict": weights(found), "epoch": 3}, path)
        return path
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(found["config"]))
    save_file(weights(found), folder / "model.safetensors")
    return folder
