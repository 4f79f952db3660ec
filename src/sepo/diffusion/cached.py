"""Reading a policy at some sites with keys and values that were kept of all others: less work, and approximate.

In a network that looks both ways the keys and values of a site depend on what stands everywhere. Those that are kept
are of an earlier state, and so is what the network says; it is what the network would say where nothing changed since,
and of a network with one layer of attention, whose keys and values are of the site's own token.

Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding (arXiv 2505.22618).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from sepo.diffusion.denoiser import CachedCall, Denoiser
from sepo.typing import Sites, Time, Tokens

PerLayer = Sequence[Float[Tensor, "batch heads length width"]]


@dataclass(frozen=True, eq=False)
class KeyValues:
    """Keys and values of all sites of a batch, one tensor per layer of attention, on the layer's own device.

    computed: sites of each row that the evaluation which gave them went through.
    """

    keys: PerLayer
    values: PerLayer
    computed: int

    def rows(self, index: Int[Tensor, " rows"]) -> KeyValues:
        """A copy of some rows of the batch."""
        keys, values = ([each[index.to(each.device)] for each in part] for part in (self.keys, self.values))
        return KeyValues(keys, values, self.computed)

    def put(self, index: Int[Tensor, " rows"], rows: KeyValues) -> None:
        """Writes the rows in place."""
        for own, new in zip([*self.keys, *self.values], [*rows.keys, *rows.values], strict=True):
            own[index.to(own.device)] = new


def read_all(
    policy: Denoiser, xt: Tokens, t: Time, attend: Sites | None, sites: Int[Tensor, "batch k"]
) -> tuple[Float[Tensor, "batch k vocab"], KeyValues]:
    """log p(x0_i = v | x_t) at `sites`, and the keys and values of all sites.

    Raises:
        ValueError: the network has no keys and values, or none that can be kept.
    """
    call = _Keeping(cached_call(policy))
    law = replace(policy, call=call).log_posterior(xt, t, attend, sites)
    return law, call.kept


def read_at(
    policy: Denoiser,
    xt: Tokens,
    t: Time,
    attend: Sites | None,
    sites: Int[Tensor, "batch k"],
    kept: KeyValues,
    at: Int[Tensor, "batch w"],
) -> Float[Tensor, "batch k vocab"]:
    """The same with the sites `at` alone computed; their keys and values are written over those that were kept.

    at: neighbours in reading order, the last of a row repeated where the row has fewer. `sites` outside of it get
    numbers without a meaning. One evaluation per row, of few sites.
    """
    call = _Keeping(cached_call(policy), kept, at)
    law = replace(policy, call=call).log_posterior(xt, t, attend, sites)
    policy.meter.sites -= xt.numel() - len(xt) * call.kept.computed
    return law


def cached_call(policy: Denoiser) -> CachedCall:
    """
    Raises:
        ValueError: there is none for this network.
    """
    if policy.cached_call is None:
        raise ValueError(
            f"This {type(policy).__name__} on a {type(policy.network).__name__} cannot keep keys and values: networks "
            "of the families language_model, transformer and dit can, unguided and without a critic. Set cache=None."
        )
    return policy.cached_call


@dataclass(eq=False)
class _Keeping:
    """The call of a denoiser that keeps what its family's cached call keeps."""

    call: CachedCall
    kept: Any = None
    at: Int[Tensor, "batch w"] | None = None

    def __call__(
        self,
        network: nn.Module,
        xt: Tokens,
        sigma: Time,
        attend: Sites | None = None,
        sites: Int[Tensor, "batch k"] | None = None,
    ) -> Float[Tensor, "batch sites vocab"]:
        logits, self.kept = self.call(network, xt, sigma, attend, sites, self.kept, self.at)
        return logits
