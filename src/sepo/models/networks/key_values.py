"""What the layers of a network ask for keys and values, in place of a cache of transformers that grows at its end."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache

from sepo.diffusion.cached import KeyValues
from sepo.models.networks.attention import LayerCache
from sepo.ops import rows
from sepo.typing import Tokens


class CachedLayers(Cache):
    """For one evaluation of states `xt`. Nothing kept: of all sites they are kept as they come.

    Else the network computes the sites `at` [batch k] alone: theirs are written over what was kept, and each layer
    attends to all.
    """

    def __init__(self, xt: Tokens, kept: KeyValues | None = None, at: Int[Tensor, "batch k"] | None = None) -> None:
        super().__init__(layers=[])
        if torch.is_grad_enabled():
            raise ValueError("Kept keys and values carry no gradient: read with a cache under torch.no_grad().")
        self.length, self.at = xt.shape[1], at
        self.keys: list[Tensor] = [] if kept is None else list(kept.keys)
        self.values: list[Tensor] = [] if kept is None else list(kept.values)

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Keys and values [batch heads k width] of the sites that are computed -> [batch heads length width]."""
        if self.at is None:
            self.keys.append(key_states)
            self.values.append(value_states)
            return key_states, value_states
        place = self.at.to(key_states.device)[:, None, :, None].expand_as(key_states)
        keys = self.keys[layer_idx].scatter_(2, place, key_states)
        return keys, self.values[layer_idx].scatter_(2, place, value_states)

    def layer(self, index: int) -> LayerCache:
        return partial(self.update, layer_idx=index)

    def computed(self, values: Tensor) -> Tensor:
        """What is computed of values [batch length ...]: all, or those at the sites `at`."""
        return values if self.at is None else rows(values, self.at)

    def columns(self, sites: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
        """Where the sites are among those that are computed; 0 for others."""
        if self.at is None:
            return sites
        column = sites.new_zeros(len(sites), self.length)
        order = torch.arange(self.at.shape[1], device=sites.device).expand_as(self.at)
        return column.scatter(1, self.at, order).gather(1, sites)

    def found(self, layers: int) -> KeyValues:
        """
        Raises:
            ValueError: not every layer gave keys and values of every site.
        """
        lengths = [each.shape[2] if each.dim() == 4 else 0 for each in (*self.keys, *self.values)]
        if lengths != [self.length] * (2 * layers):
            raise ValueError(
                f"{len(self.keys)} of {layers} layers gave keys and values, of {sorted(set(lengths))} sites out of "
                f"{self.length}: this network does not attend to all sites in all layers. Set cache=None."
            )
        return KeyValues(self.keys, self.values, self.length if self.at is None else self.at.shape[1])

    # -------------------------------------------------------------------- what the networks of transformers ask of it
    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """0: nothing stands before the sites that are given."""
        return 0

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        return self.length, 0
