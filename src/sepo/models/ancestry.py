"""What a model was trained from: its base, and the license that the base's own card states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import ModelCard, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from torch import nn

from sepo.models.adapters import adapter_around
from sepo.models.family import innermost

README = "README.md"
OF_LICENSE = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class Base:
    """name: to show; hub_id: None for a folder on this machine; license: entries of a card's header, empty if unknown.

    The name of a folder is its last part alone: where it lies here tells a reader nothing.
    """

    name: str
    hub_id: str | None = None
    license: Mapping[str, str] = field(default_factory=dict)


def ancestor_of(network: nn.Module) -> str:
    """The folder or hub id that the weights came from; empty if they were made here.

    A network that was changed since, converted or with adapters merged, has no name of its own any more, and its
    configuration still has that of its ancestor. Adapters on such a network belong to no folder, and name none.

    Raises:
        ValueError: it is no network of transformers.
    """
    inner = innermost(network)
    own = str(inner.name_or_path or "")
    return own if own or adapter_around(network) is not None else str(inner.config.name_or_path or "")


def base_named(name: str, online: bool = False) -> Base:
    """name: a folder or hub id. online: whether the card of a base on the hub may be fetched.

    Without it only what was fetched before is read.
    """
    folder = Path(name)
    if folder.is_dir():
        return Base(folder.resolve().name, None, _license_in(folder / README))
    if not _is_hub_id(name):
        return Base(folder.name)
    cached = try_to_load_from_cache(name, README)
    if cached is None:
        return Base(name, name, _license_in(name) if online else {})
    return Base(name, name, _license_in(cached) if isinstance(cached, str) else {})  # else it is known to have none


def _license_in(card: str | Path) -> dict[str, str]:
    """Of a README.md, or of the card of a hub id; nothing if there is none or it cannot be read."""
    if isinstance(card, Path) and not card.is_file():
        return {}
    try:
        data = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, HfHubHTTPError, yaml.YAMLError):
        return {}
    return {name: str(data[name]) for name in OF_LICENSE if data.get(name)}


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
