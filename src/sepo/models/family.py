"""A family: how networks of one kind are opened, run, and checked against a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from sepo.diffusion.denoiser import CachedCall, Call


def as_it_is(network: PreTrainedModel) -> PreTrainedModel:
    return network


@dataclass(frozen=True)
class Family:
    """One row of the table FAMILIES.

    call(network, xt, sigma, attend, sites) -> logits; config, network: the classes of a family of our own; stock: in
    place of them, the Auto class that transformers opens such networks with; ready: done to a stock network that was
    opened; lengths(config): the sequence lengths that the network accepts;
    length(config): that of an unconditional canvas, if the configuration knows it; time_free(config): the network
    ignores sigma; padding: it obeys `attend`; lora: the names of the layers that an adapter usually goes to (PEFT's
    `target_modules`, or a pattern; empty: leave it to PEFT); cached_call: how it is run with a
    cache of keys and values, None: it is not.
    """

    call: Call
    lengths: Callable[[PretrainedConfig], range]
    length: Callable[[PretrainedConfig], int | None]
    time_free: Callable[[PretrainedConfig], bool]
    padding: bool
    lora: tuple[str, ...] | str
    config: type[PretrainedConfig] | None = None
    network: type[PreTrainedModel] | None = None
    stock: Any = None
    ready: Callable[[PreTrainedModel], PreTrainedModel] = as_it_is
    cached_call: CachedCall | None = None


def remember(network: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """How the network was opened, beside its name: its adapters are to find the same one again."""
    network.opened_with = {name: value for name, value in options.items() if value is not None}  # type: ignore[assignment]


def innermost(network: nn.Module) -> PreTrainedModel:
    """The transformers model inside what may be wrapped around it: DDP, PEFT, torch.compile."""
    for module in network.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise ValueError(
        f"{type(network).__name__} holds no transformers PreTrainedModel: only such networks are saved and loaded "
        "here. Derive the network from PreTrainedModel, or store its state_dict yourself."
    )
