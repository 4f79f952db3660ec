"""A layout: what a published checkpoint looks like on disk, and how its numbers are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.models.published.files import FileOf, weights_alone
from sepo.models.weights import Shapes

Described = Mapping[str, Any]
"""A published configuration as plain data: config.json, or what a Lightning file holds."""


@dataclass(frozen=True)
class Names:
    """Names of tensors, there and in the network here; None: there is no such tensor on the other side."""

    here: Callable[[str], str | None]
    there: Callable[[str], str | None]


@dataclass(frozen=True)
class Layout:
    """One row of the table LAYOUTS.

    recognises(description, shapes): whether a checkpoint is of this layout; config, network: of the network here; lens:
    what its numbers mean; template(config): the description to write beside exported weights; ema: whether published
    results used the moving average, where a file holds one; untracked: ends of the names of tensors without one;
    optional: ends of the names of tensors here that a file may lack; file: what one file of it holds; order: the first
    parts of the names here as they follow each other there, where that is another order than ours.
    """

    name: str
    recognises: Callable[[Described, Shapes], bool]
    config: Callable[[Described, Shapes], PretrainedConfig]
    network: type[PreTrainedModel]
    names: Names
    lens: Callable[[PreTrainedModel, Described, PreTrainedTokenizerBase | None], Denoiser]
    template: Callable[[PretrainedConfig], dict[str, Any]]
    ema: bool = True
    untracked: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    file: FileOf = weights_alone
    order: tuple[str, ...] = ()


def same() -> Names:
    return Names(lambda name: name, lambda name: name)


def prefixed(prefix: str) -> Names:
    """Names there begin with the prefix; a tensor without it is not the network's."""
    return Names(
        lambda name: name[len(prefix) :] if name.startswith(prefix) else None,
        lambda name: prefix + name,
    )


def paired(pairs: Mapping[str, str]) -> Names:
    """By a table from there to here, in which {} stands for the number of a layer."""
    return Names(_translator(pairs), _translator({here: there for there, here in pairs.items()}))


def _translator(pairs: Mapping[str, str]) -> Callable[[str], str | None]:
    patterns = [(re.compile(re.escape(name).replace(r"\{\}", r"(\d+)")), other) for name, other in pairs.items()]

    def translate(name: str) -> str | None:
        for pattern, other in patterns:
            if found := pattern.fullmatch(name):
                return other.format(*found.groups())
        return None

    return translate


def needed(description: Described, name: str, layout: str) -> Any:
    """
    Raises:
        ValueError: the configuration lacks the entry.
    """
    if description.get(name) is None:
        raise ValueError(
            f"The configuration has no {name!r}, which every {layout} checkpoint states, but {sorted(description)}: it "
            "is incomplete or of another layout."
        )
    return description[name]
