"""Checkpoints: ordinary save_pretrained folders with one small card beside the weights, loaded back as a Denoiser.

Everything else that transformers opens with AutoModelForMaskedLM loads as well: it needs no card, only a known mask id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models.adapters import adapter_around, attach, base_of, base_weights
from sepo.models.card import NAME, Card, card_of, read_card
from sepo.models.critic import save_critic
from sepo.models.families import FAMILIES, as_denoiser, family_of
from sepo.models.family import innermost
from sepo.models.opening import STOCK, family_in, find, open_network, quiet, tokenizer_in
from sepo.models.storage import replacing, settle
from sepo.models.weights import ADAPTER_CONFIG

BASE = "base"


def save_pretrained(
    denoiser: Denoiser, folder: str | os.PathLike[str], state_dict: Mapping[str, Tensor] | None = None
) -> None:
    """Writes the network as its own `save_pretrained` does, and the card; with adapters, the adapters alone. A critic
    has a file of its own.

    All files change at once: a kill or a full disk leaves the last good checkpoint as it was. Adapters on a network
    that was never saved take it along, in the subfolder `base`. state_dict: the weights to write, where they were
    gathered elsewhere.

    Raises:
        ValueError: the network belongs to no family.
        OSError: the disk is full or not writable.
    """
    network: Any = adapter_around(denoiser.network) or innermost(denoiser.network)
    family = family_of(denoiser.network)
    try:
        with replacing(Path(folder)) as staging, quiet():
            network.save_pretrained(staging, **({} if state_dict is None else {"state_dict": dict(state_dict)}))
            save_critic(denoiser.network, staging)
            _write_card(denoiser, family, staging)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{folder} could not be written ({error}); what was there before is unchanged. Free some space or choose "
            "another folder."
        ) from error


def write_metadata(denoiser: Denoiser, folder: str | os.PathLike[str]) -> None:
    """The card alone (and the base of adapters that lack one), for a folder to which a trainer saves the network."""
    family = family_of(denoiser.network)
    with replacing(Path(folder)) as staging, quiet():
        _write_card(denoiser, family, staging)


def load(
    name: str | os.PathLike[str],
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
) -> Denoiser:
    """A denoiser from a folder or a hub id; its network is in evaluation mode.

    dtype: of the weights, None as stored; revision: branch, tag or commit on the hub.

    Raises:
        ValueError: nothing that can be loaded is there, or what is there does not fit together.
    """
    folder = find(name, revision)
    settle(folder)
    card = read_card(folder / NAME) if (folder / NAME).is_file() else None
    if (folder / ADAPTER_CONFIG).is_file():
        return _load_adapter(folder, card, device, dtype)
    family = family_in(folder)
    if card is None and family != STOCK:
        raise ValueError(
            f"{folder} holds a network of family {family!r} but no {NAME}, which says what process it was trained for. "
            "Save it with sepo.models.save_pretrained, or load the network yourself and give it to as_denoiser."
        )
    if card is not None and card.family != family:
        raise ValueError(
            f"{folder / NAME} names the family {card.family!r} but the config.json beside it is of {family!r}: restore "
            "the pair that was saved together."
        )
    network = open_network(folder, FAMILIES[family], dtype, complete=card is not None)
    denoiser = denoiser_for(network, tokenizer_in(folder)) if card is None else _through(card, network, folder)
    network.name_or_path = str(folder.resolve()) if Path(name).is_dir() else str(name)
    return _placed(denoiser, device)


def tokenizer_for(name: str | os.PathLike[str], revision: str | None = None) -> PreTrainedTokenizerBase | None:
    """The tokenizer that was saved beside a network, None if there is none: models of images, DNA and puzzles."""
    return tokenizer_in(find(name, revision))


def denoiser_for(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> Denoiser:
    """The lens on a network without a card: an absorbing process whose mask the tokenizer or the config names.

    The tokenizer's other special tokens are never drawn: they are the frame of a sequence, not its content.

    Raises:
        ValueError: no mask id is known, or it does not fit the network.
    """
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
    special: set[Any] = set() if tokenizer is None else set(tokenizer.all_special_ids)
    banned = tuple(sorted(token for token in special - {mask} if token < config.vocab_size))
    return as_denoiser(network, Absorbing(config.vocab_size, mask=mask), banned=banned)


def _write_card(denoiser: Denoiser, family: str, folder: Path) -> None:
    base = None
    if adapter_around(denoiser.network) is not None:
        network = innermost(denoiser.network)
        base = network.name_or_path
        if not base:
            base = BASE
            network.save_pretrained(folder / BASE, state_dict=base_weights(denoiser.network))
            (folder / BASE / NAME).write_text(card_of(denoiser, family).to_json(), encoding="utf-8")
    (folder / NAME).write_text(card_of(denoiser, family, base).to_json(), encoding="utf-8")


def _load_adapter(
    folder: Path, card: Card | None, device: torch.device | str | None, dtype: torch.dtype | None
) -> Denoiser:
    """The base, the adapters on it, and the lens of the adapters' own card."""
    named = card.base if card is not None and card.base is not None else base_of(folder)
    beside = (folder / named).is_dir()
    base = load(folder / named if beside else named, device, dtype)
    network = innermost(base.network)
    adapted = attach(network, folder).eval()
    if beside:
        network.name_or_path = ""  # the base travels with its adapters: it is written beside them again
    if card is None:
        return base.on(adapted)
    if card.family != family_of(network):
        raise ValueError(
            f"{folder / NAME} is of the family {card.family!r} but its base {named} of {family_of(network)!r}: restore "
            "the base that the adapter was trained on."
        )
    return _placed(_through(card, network, folder).on(adapted), device)


def _placed(denoiser: Denoiser, device: torch.device | str | None) -> Denoiser:
    return denoiser if device is None else denoiser.on(denoiser.network.to(device))


def _through(card: Card, network: PreTrainedModel, folder: Path) -> Denoiser:
    """The card's lens on the network beside it, after a check that they fit."""
    try:
        fitting = as_denoiser(network, card.process, card.meaning, card.banned, card.length)
    except ValueError as error:
        raise ValueError(f"{folder / NAME} does not fit the network beside it. {error}") from error
    return replace(fitting, time_free=card.time_free, length=card.length)
