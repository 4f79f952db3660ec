"""The table of layouts, and opening a checkpoint by it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.models.opening import Wishes, accept, conditioned, quiet, tokenizer_in
from sepo.models.published.decoders import DREAM, LLADA
from sepo.models.published.dit_layouts import MDLM, MDLM_SEDD, SEDD, UDLM
from sepo.models.published.dna import DRAKES, DRAKES_BARE, DRAKES_NETWORK
from sepo.models.published.layout import Layout
from sepo.models.published.proteins import DPLM
from sepo.models.published.source import Source
from sepo.models.weights import compare

LAYOUTS: dict[str, Layout] = {
    each.name: each for each in (SEDD, UDLM, MDLM_SEDD, MDLM, DRAKES, DRAKES_BARE, DRAKES_NETWORK, DPLM, LLADA, DREAM)
}
"""In the order in which they are tried; drakes and drakes_bare are opened alike, and differ in what is written."""


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
    config = conditioned(_configured(source, layout), wishes.condition)
    if source.hyper_parameters:
        config.hyper_parameters = dict(source.hyper_parameters)  # they go back into the file that it came in
    theirs = {layout.names.here(name): name for name in source.shapes}
    theirs.pop(None, None)
    with torch.device("meta"):
        meant = layout.network(config).state_dict()
    tied = tuple(layout.network._tied_weights_keys or ()) if getattr(config, "tie_word_embeddings", True) else ()
    spared = (*layout.optional, *tied)
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
    kept = wishes.dtype or _commonest_dtype(weights)
    opener: Any = layout.network
    options = {"output_loading_info": True, "dtype": kept, **wishes.options}
    with quiet(source.path if source.path.is_dir() else None, compared=True):
        network, report = opener.from_pretrained(None, config=config, state_dict=weights, **options)
    accept(report, source.path, type(network).__name__, complete=True, recomputed=spared)
    tokenizer = tokenizer_in(source.path) if source.path.is_dir() else None
    return layout.lens(network.eval(), source.description, tokenizer)


def _configured(source: Source, layout: Layout) -> Any:
    """
    Raises:
        ValueError: the tensors are not those of the layout.
    """
    try:
        return layout.config(source.description, source.shapes)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"{source.path} is not of the layout {layout.name}: it lacks {error}, and holds "
            f"{', '.join(list(source.shapes)[:5])} ({len(source.shapes)} tensors)."
        ) from error


def _commonest_dtype(weights: dict[str, Tensor]) -> torch.dtype:
    """That of most numbers."""
    numbers: Counter[torch.dtype] = Counter()
    for each in weights.values():
        if each.is_floating_point():
            numbers[each.dtype] += each.numel()
    return numbers.most_common(1)[0][0] if numbers else torch.float32


def _averaged(source: Source, layout: Layout, required: bool) -> dict[str, Tensor]:
    """The moving averages by name: they lie in the order of the parameters, buffers and frozen tensors left out."""
    if not source.shadow:
        if required:
            raise ValueError(f"ema=True: {source.path} holds no moving average; say ema=False, or nothing.")
        return {}
    tracked = [
        name for name in source.shapes if not name.endswith(layout.untracked) and layout.names.here(name) is not None
    ]
    names = [str(layout.names.here(name)) for name in tracked]
    if len(names) != len(source.shadow):
        raise ValueError(
            f"{source.path} holds {len(source.shadow)} moving averages for {len(names)} parameters: which belongs to "
            "which cannot be told. Say ema=False for the raw weights."
        )
    shapes = [tuple(each.shape) for each in source.shadow]
    if shapes != [source.shapes[name] for name in tracked]:
        raise ValueError(f"{source.path}: the moving averages have other shapes than the parameters; say ema=False.")
    return dict(zip(names, source.shadow, strict=True))
