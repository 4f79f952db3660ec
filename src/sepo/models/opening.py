"""From a name to a network: find the folder, look at what is in it, and only then load the weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import Filter, LogRecord
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)
from transformers.utils import logging

from sepo.models.families import FAMILIES
from sepo.models.family import Family
from sepo.models.weights import compare, read_json, shapes

FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
PICKLED = ("*.bin", "*.ckpt", "*.pt", "*.pth")
SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How a folder is opened: nothing is downloaded, and no code in it is run."""
REPORT = "LOAD REPORT"
"""In what transformers says of tensors that were missing, or left over."""
LARGE = 2**30
"""Bytes of weights from which on loading shows its progress."""
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
STOCK = ("masked_lm", "language_model", "diffusion_gemma")


@dataclass(frozen=True)
class Wishes:
    """How a checkpoint is to be opened, as `load` takes it."""

    dtype: torch.dtype | None = None
    revision: str | None = None
    layout: str | None = None
    pickles: bool = False
    ema: bool | None = None
    local_files_only: bool = False
    condition: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def find(
    name: str | os.PathLike[str],
    wishes: Wishes = Wishes(),
    weights: bool = True,
) -> Path:
    """The local folder or file of a checkpoint, downloaded if `name` is a hub id; weights: these too.

    Raises:
        ValueError: it is neither here nor on the hub.
    """
    path = Path(name)
    if path.exists():
        return path
    wanted = [*FILES, *(PICKLED if wishes.pickles else ())]
    if not weights:
        wanted.remove("*.safetensors")
    try:
        return Path(
            snapshot_download(
                str(name),
                revision=wishes.revision,
                allow_patterns=wanted,
                local_files_only=wishes.local_files_only,
            )
        )
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
        return "masked_lm"
    if any("ForBlockDiffusion" in architecture for architecture in architectures):
        return "diffusion_gemma"
    if any("ForCausalLM" in architecture or "LMHeadModel" in architecture for architecture in architectures):
        if config.get("is_causal", True):
            raise ValueError(
                f"{path} is of {architectures[0]}, which looks back only and cannot fill in what lies ahead. To start "
                "a diffusion model from it, say convert=True (--model_init_kwargs.convert true) and train it on text."
            )
        return "language_model"
    raise ValueError(
        f"{path} has model_type {config.get('model_type')!r} and architectures {architectures}: neither one of the "
        f"families {', '.join(FAMILIES)} nor a masked language model (...ForMaskedLM) of transformers."
    )


def open_network(folder: Path, family: Family, wishes: Wishes, complete: bool) -> PreTrainedModel:
    """The network with its weights, in evaluation mode. complete: tensors that it does not know are refused as well.

    Raises:
        ValueError: the files are missing, damaged, pickled, or of another network.
    """
    found = {} if wishes.pickles and family.network is None else shapes(folder)
    if family.network is not None and family.config is not None:
        try:
            config = family.config.from_dict(read_json(folder / "config.json"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{folder / 'config.json'}: {error}") from error
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in family.network(config).state_dict().items()}
        compare(folder, found, wanted, family.network.__name__)
    opener: Any = family.network or family.stock
    options = {**SAFE, "output_loading_info": True, **wishes.options}
    if wishes.condition is not None:
        described = family.config or AutoConfig
        options["config"] = conditioned(described.from_pretrained(folder, **SAFE), wishes.condition)
    if wishes.dtype is not None:
        options["dtype"] = wishes.dtype
    try:
        with quiet(folder):
            network, report = opener.from_pretrained(folder, **options)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} cannot be opened: {str(error).strip()}") from error
    accept(report, folder, type(network).__name__, complete)
    return family.ready(network)


def conditioned(config: Any, condition: int | None) -> Any:
    """The configuration of a network that is told of a class; None: as it is.

    Raises:
        ValueError: the network knows no classes, or not this one.
    """
    if condition is None:
        return config
    described = config.to_dict()
    if "condition" not in described:
        raise ValueError(
            f"condition={condition}: {type(config).__name__} is of a network without classes; leave it out."
        )
    return type(config).from_dict(described | {"condition": condition})


def tokenizer_in(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer beside the weights, if there is one.

    A folder that names code of its own for it (Dream's does) is read by the stock class of its files in its place.

    Raises:
        ValueError: its files are of no stock tokenizer.
    """
    present = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not present:
        return None
    theirs, config = (_described(folder / name) for name in ("tokenizer_config.json", "config.json"))
    if "auto_map" not in (theirs if "tokenizer_class" in theirs else theirs | config):
        return AutoTokenizer.from_pretrained(folder, **SAFE)
    stock: Any = PreTrainedTokenizerFast if "tokenizer.json" in present else Qwen2Tokenizer
    if "tokenizer.json" in present or (folder / "merges.txt").is_file():
        return stock.from_pretrained(folder, local_files_only=True)
    try:
        return AutoTokenizer.from_pretrained(folder, **SAFE)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"The tokenizer in {folder} needs code of its own ({', '.join(present)}), which is not run: give a stock "
            "one, with processing_class= or --tokenizer."
        ) from error


def _described(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


@contextmanager
def quiet(folder: Path | None = None, compared: bool = False) -> Iterator[None]:
    """Without transformers' progress bars, unless the weights in `folder` are large.

    compared: also without its report of missing and unexpected tensors, which were compared with the network's one by
    one before, and are to be accepted after.
    """
    large = folder is not None and sum(each.stat().st_size for each in folder.glob("*.*")) > LARGE
    shown = logging.is_progress_bar_enabled() and not large
    reporter, without = logging.get_logger("transformers.modeling_utils"), WithoutReport()
    if not large:
        logging.disable_progress_bar()
    if compared:
        reporter.addFilter(without)
    try:
        yield
    finally:
        reporter.removeFilter(without)
        if shown:
            logging.enable_progress_bar()


class WithoutReport(Filter):
    def filter(self, record: LogRecord) -> bool:
        return REPORT not in record.getMessage()


def accept(report: dict[str, Any], folder: Path, who: str, complete: bool, recomputed: tuple[str, ...] = ()) -> None:
    """Refuses a network that was loaded with holes, which transformers only warns of.

    recomputed: ends of the names of tensors that need no file.
    """
    refused = ["missing_keys", "mismatched_keys", "error_msgs", *(["unexpected_keys"] if complete else [])]
    told = {kind: sorted(map(str, report.get(kind) or ())) for kind in refused}
    told["missing_keys"] = [name for name in told["missing_keys"] if not (recomputed and name.endswith(recomputed))]
    faults = {kind: names for kind, names in told.items() if names}
    if faults:
        described = "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names[:5])}" for kind, names in faults.items())
        raise ValueError(
            f"The weights in {folder} do not fit {who} ({described}): they belong to another network or another head. "
            "Restore the pair of config.json and weights that was saved together."
        )
