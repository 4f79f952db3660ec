"""A network of ours written in the layout that its checkpoint was published in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict

from sepo.diffusion.denoiser import Denoiser
from sepo.models.adapters import adapter_around
from sepo.models.family import innermost
from sepo.models.published.layout import Layout
from sepo.models.published.table import layout_named
from sepo.models.storage import replacing


def save_published(denoiser: Denoiser, path: str | os.PathLike[str], layout: str) -> None:
    """A folder of config.json and safetensors; or, if `path` ends in .ckpt, .pt or .pth, one file for torch.load.

    Such a file is what the layout's own code reads (`sepo.models.published.files`): Lightning's, SEDD's, or the weights
    alone; `torch.load(weights_only=True)` reads all.

    Raises:
        ValueError: there is no such layout, the network is not of it, or adapters were not merged.
    """
    chosen, network = layout_named(layout), innermost(denoiser.network)
    if adapter_around(denoiser.network) is not None:
        raise ValueError(
            "The network carries adapters, which no published layout has: merge them first, with sepo.models.merged."
        )
    if not isinstance(network, chosen.network):
        raise ValueError(
            f"layout={layout!r} is of a {chosen.network.__name__}, and this network is a {type(network).__name__}."
        )
    described: dict[str, Any] = chosen.template(network.config)
    _require_same_lens(denoiser, chosen, described)
    ours = network.state_dict()
    in_order = sorted(ours, key=lambda name: chosen.order.index(name.split(".")[0])) if chosen.order else list(ours)
    weights = {chosen.names.there(name): ours[name] for name in in_order}
    theirs = {str(name): tensor.detach().cpu().contiguous() for name, tensor in weights.items() if name is not None}
    target = Path(path)
    if target.suffix in (".ckpt", ".pt", ".pth"):
        _write_one(target, chosen.file(theirs, network.config.to_dict(), chosen.untracked))
        return
    with replacing(target) as staging:
        save_torch_state_dict(theirs, staging)
        (staging / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _require_same_lens(denoiser: Denoiser, layout: Layout, described: dict[str, Any]) -> None:
    """Whoever opens what is written must read the same numbers out of it."""
    theirs = layout.lens(innermost(denoiser.network), described, None)
    for name in ("process", "meaning"):
        ours, other = getattr(denoiser, name), getattr(theirs, name)
        if ours != other:
            raise ValueError(
                f"layout={layout.name!r} says {name} {other}, and this model has {ours}: what would be written there "
                "would be read wrongly. Choose the layout that it came in, or none."
            )


def _write_one(target: Path, content: Any) -> None:
    """The file appears complete or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half_written = target.with_name(target.name + ".writing")
    torch.save(content, half_written)
    half_written.replace(target)
