"""Loading: a name becomes a Denoiser, whoever wrote the checkpoint.

Folders that were saved here have a card beside the weights. Others are recognised: the layouts in which models were
published (sepo.models.published), and what transformers opens itself.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models import diffusion_gemma, language_model, masked_lm
from sepo.models.adapters import attach, base_of
from sepo.models.card import NAME, Card, read_card
from sepo.models.conversion import convert as converted
from sepo.models.families import FAMILIES, as_denoiser, family_of
from sepo.models.family import innermost, remember
from sepo.models.opening import (
    SAFE,
    STOCK,
    Wishes,
    accept,
    conditioned,
    family_in,
    find,
    open_network,
    quiet,
    tokenizer_in,
)
from sepo.models.published.source import source_of
from sepo.models.published.table import LAYOUTS, layout_named, layout_of, open_published
from sepo.models.storage import settle
from sepo.models.weights import ADAPTER_CONFIG, shapes


def load(
    name: str | os.PathLike[str],
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    *,
    layout: str | None = None,
    pickles: bool = False,
    ema: bool | None = None,
    convert: bool = False,
    condition: int | None = None,
    local_files_only: bool = False,
    **options: Any,
) -> Denoiser:
    """A denoiser from a folder, a file or a hub id; its network is in evaluation mode.

    dtype: of the weights, such as torch.bfloat16 or "bfloat16", None as stored; revision: branch, tag or commit on the
    hub; layout: of a published checkpoint, a name in LAYOUTS, None to recognise it; pickles: admit weights that are no
    safetensors (nothing that they hold is run); ema: the moving average where a file holds one, None as published
    results do; convert: begin a diffusion model from an autoregressive one; condition: the class that a network with
    classes (udlm-qm9) is told of, None: as it was saved, of a published one none; local_files_only: nothing is
    downloaded (as HF_HUB_OFFLINE=1); options: of transformers' from_pretrained, such as device_map,
    attn_implementation or quantization_config.

    Raises:
        ValueError: nothing that can be loaded is there, or what is there does not fit together.
    """
    if options.get("trust_remote_code"):
        raise ValueError("trust_remote_code=True: code of a checkpoint is never run here; leave it out.")
    wishes = Wishes(_dtype(dtype), revision, layout, pickles, ema, local_files_only, condition, options)
    folder = find(name, wishes)
    if folder.is_dir():
        settle(folder)
    denoiser = _converted(folder, wishes) if convert else _opened(folder, wishes)
    network = innermost(denoiser.network)
    if not (folder / ADAPTER_CONFIG).is_file():
        network.config.name_or_path = str(folder.resolve()) if Path(name).exists() else str(name)
        if not convert:
            network.name_or_path = network.config.name_or_path
            told = {"revision": revision, "layout": layout, "ema": ema, "pickles": pickles or None}
            remember(network, {**told, "condition": condition})
    placed = getattr(network, "hf_device_map", None) or getattr(network, "is_quantized", False)
    return denoiser if device is None or placed else denoiser.on(denoiser.network.to(device))


def _dtype(asked: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, asked, asked) if isinstance(asked, str) else asked
    if not (found is None or isinstance(found, torch.dtype)):
        raise ValueError(f"dtype={asked!r}: choose one of torch's, such as float32 or bfloat16, or nothing.")
    return found


def _opened(folder: Path, wishes: Wishes) -> Denoiser:
    card = read_card(folder / NAME) if (folder / NAME).is_file() else None
    if (folder / ADAPTER_CONFIG).is_file():
        return _load_adapter(folder, card, wishes)
    published = _published(folder, wishes) if card is None else None
    if published is not None:
        return published
    family = family_in(folder)
    if card is None and family not in STOCK:
        raise ValueError(
            f"{folder} holds a network of family {family!r} but no {NAME}, which says what process it was trained for. "
            "Save it with sepo.models.save_pretrained, or load the network yourself and give it to as_denoiser."
        )
    if card is not None and card.family != family:
        raise ValueError(
            f"{folder / NAME} names the family {card.family!r} but the config.json beside it is of {family!r}: restore "
            "the pair that was saved together."
        )
    network = open_network(folder, FAMILIES[family], wishes, complete=card is not None)
    return denoiser_for(network, tokenizer_in(folder)) if card is None else _through(card, network, folder)


def tokenizer_for(
    name: str | os.PathLike[str], revision: str | None = None, local_files_only: bool = False
) -> PreTrainedTokenizerBase | None:
    """The tokenizer that was saved beside a network, None if there is none: models of images, DNA and puzzles.

    Weights are not downloaded for it.
    """
    return tokenizer_in(find(name, Wishes(revision=revision, local_files_only=local_files_only), weights=False))


def denoiser_for(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> Denoiser:
    """The lens on a network without a card: an absorbing process whose mask the tokenizer or the config names.

    Other special tokens are never drawn: they are the frame of a sequence, not its content.

    Raises:
        ValueError: no mask id is known, or it does not fit the network.
    """
    if family_of(network) == "diffusion_gemma":
        return diffusion_gemma.lens(network, tokenizer)
    config = innermost(network).config
    mask: Any = None if tokenizer is None else tokenizer.mask_token_id
    if mask is None:
        mask = config.to_dict().get("mask_token_id")
    if mask is None:
        raise ValueError(
            f"No mask id is known for {type(innermost(network)).__name__}: neither the tokenizer nor config.json names "
            "one. Give a tokenizer with a mask token, or say what the process is: "
            "as_denoiser(network, Absorbing(size, mask))."
        )
    if not 0 <= mask < config.vocab_size:
        raise ValueError(
            f"The mask id {mask} is outside the network's vocab_size={config.vocab_size}: the tokenizer belongs to "
            "another model, or a mask token was added to it alone (network.resize_token_embeddings adds it to the "
            "network)."
        )
    family = language_model if family_of(network) == "language_model" else masked_lm
    banned = family.never_drawn(config, mask, tokenizer)
    process = Absorbing(config.vocab_size, mask=mask)
    return replace(as_denoiser(network, process, banned=banned), frame=masked_lm.frame_of(config))


def _load_adapter(folder: Path, card: Card | None, wishes: Wishes) -> Denoiser:
    """The base, the adapters on it, and the lens of the adapters' own card."""
    named = card.base if card is not None and card.base is not None else base_of(folder)
    beside = not Path(named).is_absolute() and (folder / named).is_dir()
    asked = {"pickles": wishes.pickles, "local_files_only": wishes.local_files_only, "dtype": wishes.dtype}
    told = {} if card is None else dict(card.base_options)
    if wishes.condition is not None:
        told["condition"] = wishes.condition
    base = load(folder / named if beside else named, **{**asked, **told}, **wishes.options)
    network = innermost(base.network)
    adapted = attach(network, folder).eval()
    if beside:
        network.name_or_path = network.config.name_or_path = ""  # the base travels with its adapters, and has no place
    if card is None:
        return base.on(adapted)
    if card.family != family_of(network):
        raise ValueError(
            f"{folder / NAME} is of the family {card.family!r} but its base {named} of {family_of(network)!r}: restore "
            "the base that the adapter was trained on."
        )
    return _through(card, network, folder).on(adapted)


def _published(path: Path, wishes: Wishes) -> Denoiser | None:
    """None: it is in no published layout, but a stock network of transformers, or nothing."""
    if path.is_dir() and not (path / "config.json").is_file() and not wishes.pickles and wishes.layout is None:
        return None
    if path.is_file() and (path.parent / NAME).is_file():
        raise ValueError(f"{path} is a file, not a checkpoint: give the folder {path.parent}, which has a {NAME}.")
    source = source_of(path, wishes.pickles)
    layout = layout_of(source) if wishes.layout is None else layout_named(wishes.layout)
    if layout is not None:
        return open_published(source, layout, wishes)
    if path.is_file():
        raise ValueError(
            f"{path} holds {len(source.shapes)} tensors, such as {next(iter(source.shapes))!r}, in none of the layouts "
            f"{', '.join(LAYOUTS)}: name the one it is of with layout=, or give the folder that save_pretrained wrote."
        )
    return None


def _converted(folder: Path, wishes: Wishes) -> Denoiser:
    tokenizer = tokenizer_in(folder)
    if tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer, and a conversion needs one that knows a mask.")
    if not wishes.pickles:
        shapes(folder)
    options = {**SAFE, "output_loading_info": True, **wishes.options}
    if wishes.dtype is not None:
        options["dtype"] = wishes.dtype
    opener: Any = AutoModelForCausalLM
    with quiet(folder):
        network, report = opener.from_pretrained(folder, **options)
    accept(report, folder, type(network).__name__, complete=False)
    conditioned(network.config, wishes.condition)
    return converted(network.eval(), tokenizer)


def _through(card: Card, network: PreTrainedModel, folder: Path) -> Denoiser:
    """The card's lens on the network beside it, after a check that they fit."""
    try:
        fitting = as_denoiser(network, card.process, card.meaning, card.banned, card.length)
    except ValueError as error:
        raise ValueError(f"{folder / NAME} does not fit the network beside it. {error}") from error
    return replace(fitting, time_free=card.time_free, length=card.length, frame=card.frame)
