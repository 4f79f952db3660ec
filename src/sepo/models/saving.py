"""Saving: an ordinary save_pretrained folder with one small card beside the weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.models.adapters import adapter_around, base_weights
from sepo.models.card import NAME, card_of
from sepo.models.critic import save_critic
from sepo.models.families import family_of
from sepo.models.family import innermost
from sepo.models.opening import quiet
from sepo.models.storage import replacing

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
            (staging / "README.md").unlink(missing_ok=True)  # PEFT's, which would replace the user's
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


def _write_card(denoiser: Denoiser, family: str, folder: Path) -> None:
    base, options = None, {}
    if adapter_around(denoiser.network) is not None:
        network = innermost(denoiser.network)
        base, options = network.name_or_path, getattr(network, "opened_with", {})
        if not base:
            base, options = BASE, {}
            network.save_pretrained(folder / BASE, state_dict=base_weights(denoiser.network))
            (folder / BASE / NAME).write_text(card_of(denoiser, family).to_json(), encoding="utf-8")
    (folder / NAME).write_text(card_of(denoiser, family, base, options).to_json(), encoding="utf-8")
