"""How networks of ours are run with a cache of keys and values."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sepo.diffusion.cached import KeyValues
from sepo.models.family import innermost
from sepo.models.networks.key_values import CachedLayers
from sepo.typing import Sites, Time, Tokens


def cached_call(
    network: nn.Module,
    xt: Tokens,
    sigma: Time,
    attend: Sites | None = None,
    sites: Int[Tensor, "batch n"] | None = None,
    kept: KeyValues | None = None,
    at: Int[Tensor, "batch k"] | None = None,
) -> tuple[Float[Tensor, "batch sites vocab"], KeyValues]:
    """Logits at `sites`, and keys and values; of a network with time those that were kept are of an earlier sigma."""
    cache = CachedLayers(xt, kept, at)
    logits = network(xt, sigma=sigma, attend=attend, sites=sites, cache=cache)
    return logits, cache.found(innermost(network).config.num_hidden_layers)
