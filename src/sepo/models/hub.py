"""Checkpoints: ordinary save_pretrained folders with one small card beside the weights, loaded back as a Denoiser.

Everything else that transformers opens with AutoModelForMaskedLM loads as well: it needs no card, only a known mask id.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models.adapters import adapter_around, attach, base_of, base_weights
from sepo.models.card import NAME, Card, card_of, read_card
from sepo.models.families import FAMILIES, as_denoiser, family_of
from sepo.models.family import Family, innermost
from sepo.models.storage import replacing, settle
from sepo.models.weights import ADAPTER_CONFIG, compare, read_json, shapes

FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
BASE = "base"


def save_pretrained(
    denoiser: Denoiser, folder: str | os.PathLike[str], state_dict: Mapping[str, Tensor] | None = None
) -> None:
    """Writes the network as its own `save_pretrained` does, and the card; with adapters, the adapters alone.

    All files change at once: a kill or a full disk leaves the last good checkpoint as it was. Adapters on a network
    that was never saved take it along, in the subfolder `base`. state_dict: the weights to write, where they were
    gathered elsewhere.

    Raises:
        ValueError: the network belongs to no family.
        OSError: the disk is full or not writable.
    """
    folder = Path(folder)
    family = family_of(denoiser.network)
    try:
        with replacing(folder) as staging, _quiet():
            network = adapter_around(denoiser.network) or innermost(denoiser.network)
            network.save_pretrained(staging, **({} if state_dict is None else {"state_dict": dict(state_dict)}))
            _write_card(denoiser, family, staging)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{folder} could not be written ({error}); what was there before is unchanged. Free some space or choose "
            "another folder."
        ) from error


def write_metadata(denoiser: Denoiser, folder: str | os.PathLike[str]) -> None:
    """The card alone (and the base of adapters that lack one), for a folder to which a trainer saves the network."""
    family = family_of(denoiser.network)
    with replacing(Path(folder)) as staging, _quiet():
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
    folder = _folder(name, revision)
    settle(folder)
    source = str(name) if not Path(name).exists() else str(folder.resolve())
    adapter = (folder / ADAPTER_CONFIG).is_file()
    card = read_card(folder / NAME) if (folder / NAME).is_file() else None
    if adapter:
        return _load_adapter(folder, card, device, dtype)
    config = _config(folder, card)
    if card is None:
        _require_masked_lm(folder, config)
        network = _open(folder, FAMILIES["masked_lm"], dtype, strict=False)
        denoiser = denoiser_for(network, _tokenizer(folder))
    else:
        network = _open(folder, FAMILIES[card.family], dtype, strict=True, config=config)
        denoiser = _through(card, network, folder)
    network.name_or_path = network.config.name_or_path = source
    network.to(device)  # type: ignore[arg-type]
    return denoiser


def denoiser_for(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> Denoiser:
    """The lens on a network without a card: an absorbing process whose mask the tokenizer or the config names.

    The tokenizer's other special tokens are never drawn: they are the frame of a sequence, not its content.

    Raises:
        ValueError: no mask id is known, or it does not fit the network.
    """
    config = innermost(network).config
    mask = None if tokenizer is None else tokenizer.mask_token_id
    if mask is None:
        mask = config.to_dict().get("mask_token_id")
    if mask is None:
        raise ValueError(
            f"No mask id is known for {type(innermost(network)).__name__}: neither the tokenizer nor config.json names "
            "one. Give a tokenizer with a mask token, or say what the process is: as_denoiser(network, Absorbing(size, "
            "mask))."
        )
    if not 0 <= mask < config.vocab_size:
        raise ValueError(
            f"The mask id {mask} is outside the network's vocab_size={config.vocab_size}: the tokenizer belongs to "
            "another model, or a mask token was added to it alone (network.resize_token_embeddings adds it to the "
            "network)."
        )
    banned = () if tokenizer is None else tuple(sorted(set(tokenizer.all_special_ids) - {mask}))
    inside = tuple(token for token in banned if token < config.vocab_size)
    return as_denoiser(network, Absorbing(config.vocab_size, mask=mask), banned=inside)


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
    beside = folder / named
    base = load(beside if beside.is_dir() else named, device, dtype)
    network = innermost(base.network)
    adapted = attach(network, folder).eval()
    if beside.is_dir():
        network.name_or_path = network.config.name_or_path = ""
    if card is None:
        return base.on(adapted)
    if card.family != family_of(network):
        raise ValueError(f"{folder / NAME} is of family {card.family!r}, its base {named} of {family_of(network)!r}.")
    return _through(card, network, folder).on(adapted)


def _through(card: Card, network: PreTrainedModel, folder: Path) -> Denoiser:
    try:
        fitting = as_denoiser(network, card.process, card.meaning, card.banned, card.length)
    except ValueError as error:
        raise ValueError(f"{folder / NAME} does not fit the network beside it. {error}") from error
    return replace(fitting, time_free=card.time_free, length=card.length)


def _folder(name: str | os.PathLike[str], revision: str | None) -> Path:
    """The local folder of a checkpoint, after a download if `name` is a hub id."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(
            f"{path} is a file: give the folder that holds it, or convert it to a checkpoint folder first."
        )
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{str(name)!r} is neither a folder here nor a model that could be fetched from the Hugging Face hub "
            f"({first_line}). Check the spelling, the network connection, and for a gated model that you are logged in."
        ) from error


def _config(folder: Path, card: Card | None) -> PretrainedConfig:
    """The network's configuration.

    Raises:
        ValueError: there is none, it is damaged, or it is not of the card's family.
    """
    path = folder / "config.json"
    if not path.is_file():
        shapes(folder)  # a folder with pickles or without any weights says so more clearly
        raise ValueError(
            f"{folder} is not a checkpoint: it has no config.json. Give a folder that save_pretrained has written."
        )
    described = read_json(path)
    own = {family.model.config_class.model_type: name for name, family in FAMILIES.items() if _own(family)}
    kind = described.get("model_type")
    name = own.get(str(kind), "masked_lm")
    if card is None and name != "masked_lm":
        raise ValueError(
            f"{folder} holds a network of family {name!r} but no {NAME}, which says what process it was trained for. "
            "Save it with sepo.models.save_pretrained, or load the network yourself and give it to as_denoiser."
        )
    if card is not None and card.family != name:
        raise ValueError(
            f"{folder / NAME} names the family {card.family!r} but config.json has model_type {kind!r}; restore one."
        )
    try:
        return (
            FAMILIES[name].model.config_class.from_dict(described)
            if name in own.values()
            else AutoConfig.from_pretrained(folder)
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error


def _require_masked_lm(folder: Path, config: PretrainedConfig) -> None:
    architectures = config.architectures or []
    if not any("ForMaskedLM" in name or name == "BertForPreTraining" for name in architectures):
        raise ValueError(
            f"{folder} has no {NAME} and its architectures are {architectures}: without a card only masked language "
            "models (...ForMaskedLM) can be loaded."
        )


def _open(
    folder: Path, family: Family, dtype: torch.dtype | None, strict: bool, config: PretrainedConfig | None = None
) -> PreTrainedModel:
    """The network with its weights; missing tensors are refused, with `strict` unexpected ones too."""
    found = shapes(folder)
    if config is not None and _own(family):
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in family.model(config).state_dict().items()}
        compare(folder, found, wanted, family.model.__name__)
    more = {} if dtype is None else {"dtype": dtype}
    try:
        with _quiet():
            network, report = family.model.from_pretrained(
                folder, output_loading_info=True, local_files_only=True, **more
            )
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"{folder} cannot be opened: {str(error).strip()}") from error
    faults = {
        key: sorted(report[key])
        for key in ("missing_keys", "mismatched_keys", *(["unexpected_keys"] if strict else []))
    }
    if any(faults.values()):
        described = "; ".join(
            f"{key.replace('_', ' ')}: {', '.join(map(str, names[:5]))}" for key, names in faults.items() if names
        )
        raise ValueError(
            f"The weights in {folder} do not fit {type(network).__name__} ({described}): they belong to another "
            "network or another head; restore the pair of config.json and weights that was saved together."
        )
    return network


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer beside the weights, if there is one."""
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
    ):
        return None
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _own(family: Family) -> bool:
    return issubclass(family.model, PreTrainedModel)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
