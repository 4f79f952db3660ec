"""The table of layouts, and opening a checkpoint by it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.models.opening import Wishes, quiet, tokenizer_in
from sepo.models.published.decoders import DREAM, LLADA
from sepo.models.published.dit_layouts import MDLM, MDLM_SEDD, SEDD, UDLM
from sepo.models.published.dna import DRAKES, DRAKES_BARE
from sepo.models.published.layout import Layout
from sepo.models.published.proteins import DPLM
from sepo.models.published.source import Source
from sepo.models.weights import compare

LAYOUTS: dict[str, Layout] = {
    each.name: each for each in (SEDD, UDLM, MDLM_SEDD, MDLM, DRAKES, DRAKES_BARE, DPLM, LLADA, DREAM)
}
"""In the order in which they are tried."""


def layout_named(name: str) -> Layout:
    """
    Raises:
        ValueError: there is no such layout.
    """
    if name not in LAYOUTS:
        raise ValueError(f"layout={name!r}: choose one of {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]


def layout_of(source: Source) -> Layout | None:
    """None: it is a network of ours without its card, or in no published layout."""
    if str(source.description.get("model_type")).startswith("sepo_"):
        return None
    return next((each for each in LAYOUTS.values() if each.recognises(source.description, source.shapes)), None)


def open_published(source: Source, layout: Layout, wishes: Wishes) -> Denoiser:
    """
    Raises:
        ValueError: the weights do not fit the network that the configuration describes; there is no average.
    """
    config = layout.config(source.description, source.shapes)
    theirs = {layout.names.here(name): name for name in source.shapes}
    theirs.pop(None, None)
    with torch.device("meta"):
        meant = layout.network(config).state_dict()
    spared = (*layout.optional, *(layout.network._tied_weights_keys or ()))
    wanted = {name: tuple(each.shape) for name, each in meant.items() if name in theirs or not name.endswith(spared)}
    compare(
        source.path,
        {str(here): source.shapes[there] for here, there in theirs.items()},
        wanted,
        f"{layout.network.__name__} (layout {layout.name})",
    )
    weights = {str(here): source.read(there) for here, there in theirs.items()}
    if layout.ema if wishes.ema is None else wishes.ema:
        weights |= _averaged(source, layout, required=bool(wishes.ema))
    kept = wishes.dtype or next((each.dtype for each in weights.values() if each.is_floating_point()), torch.float32)
    opener: Any = layout.network
    with quiet():
        network = opener.from_pretrained(None, config=config, state_dict=weights, dtype=kept, **wishes.options)
    tokenizer = tokenizer_in(source.path) if source.path.is_dir() else None
    return layout.lens(network.eval(), source.description, tokenizer)


def _averaged(source: Source, layout: Layout, required: bool) -> dict[str, Tensor]:
    """The moving averages by name: they lie in the order of the parameters, buffers and frozen tensors left out."""
    if not source.shadow:
        if required:
            raise ValueError(f"ema=True: {source.path} holds no moving average; say ema=False, or nothing.")
        return {}
    names = [name for name in source.shapes if not name.endswith(layout.untracked)]
    names = [here for here in map(layout.names.here, names) if here is not None]
    if len(names) != len(source.shadow):
        raise ValueError(
            f"{source.path} holds {len(source.shadow)} moving averages for {len(names)} parameters: which belongs to "
            "which cannot be told. Say ema=False for the raw weights."
        )
    return dict(zip(names, source.shadow, strict=True))
