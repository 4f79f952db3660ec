"""From a name to a network: find the folder, look at what is in it, and only then load the weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from sepo.models.families import FAMILIES
from sepo.models.family import Family
from sepo.models.weights import compare, read_json, shapes

FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
STOCK = "masked_lm"


def find(name: str | os.PathLike[str], revision: str | None) -> Path:
    """The local folder of a checkpoint, downloaded if `name` is a hub id.

    Raises:
        ValueError: it is neither here nor on the hub.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{path} is a file, not a checkpoint: give the folder that save_pretrained has written.")
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{str(name)!r} is neither a folder here nor a model that could be fetched from the Hugging Face hub "
            f"({reason}). Check the spelling, the network connection, and for a gated model that you are logged in."
        ) from error


def family_in(folder: Path) -> str:
    """The family of the network in a checkpoint folder, by its config.json.

    Raises:
        ValueError: there is no configuration, it is damaged, or no family knows such a network.
    """
    path = folder / "config.json"
    if not path.is_file():
        shapes(folder)  # a folder of pickles, or without any weights, says so more clearly
        raise ValueError(f"{folder} has no config.json: give a folder that save_pretrained has written, complete.")
    config = read_json(path)
    for name, family in FAMILIES.items():
        if family.config is not None and family.config.model_type == config.get("model_type"):
            return name
    architectures = config.get("architectures") or []
    if any("ForMaskedLM" in architecture or "ForPreTraining" in architecture for architecture in architectures):
        return STOCK
    raise ValueError(
        f"{path} has model_type {config.get('model_type')!r} and architectures {architectures}: neither one of the "
        f"families {', '.join(FAMILIES)} nor a masked language model (...ForMaskedLM) of transformers."
    )


def open_network(folder: Path, family: Family, dtype: torch.dtype | None, complete: bool) -> PreTrainedModel:
    """The network with its weights, in evaluation mode. complete: tensors that it does not know are refused as well.

    Raises:
        ValueError: the files are missing, damaged, pickled, or of another network.
    """
    found = shapes(folder)
    if family.network is not None and family.config is not None:
        try:
            config = family.config.from_dict(read_json(folder / "config.json"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{folder / 'config.json'}: {error}") from error
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in family.network(config).state_dict().items()}
        compare(folder, found, wanted, family.network.__name__)
    opener: Any = family.network or AutoModelForMaskedLM
    options = {"output_loading_info": True, "local_files_only": True, **({} if dtype is None else {"dtype": dtype})}
    try:
        with quiet():
            network, report = opener.from_pretrained(folder, **options)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} cannot be opened: {str(error).strip()}") from error
    _accept(report, folder, type(network).__name__, complete)
    return network


def tokenizer_in(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer beside the weights, if there is one."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return None
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _accept(report: dict[str, Any], folder: Path, who: str, complete: bool) -> None:
    """Refuses a network that was loaded with holes, which transformers only warns of."""
    refused = ["missing_keys", "mismatched_keys", "error_msgs", *(["unexpected_keys"] if complete else [])]
    faults = {kind: sorted(map(str, report[kind])) for kind in refused if report.get(kind)}
    if faults:
        described = "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names[:5])}" for kind, names in faults.items())
        raise ValueError(
            f"The weights in {folder} do not fit {who} ({described}): they belong to another network or another head. "
            "Restore the pair of config.json and weights that was saved together."
        )
