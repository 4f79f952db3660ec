"""The family of SEDD, MDLM and UDLM: a diffusion transformer over rotary positions."""

from __future__ import annotations

import sys

from jaxtyping import Float, Int
from torch import Tensor, nn

from sepo.models.cached import cached_call
from sepo.models.family import Family
from sepo.models.networks.dit import DiT, DiTConfig
from sepo.typing import Sites, Time, Tokens


def call(
    network: nn.Module,
    xt: Tokens,
    sigma: Time,
    attend: Sites | None = None,
    sites: Int[Tensor, "batch k"] | None = None,
) -> Float[Tensor, "batch sites vocab"]:
    """Logits [batch length vocab], or [batch k vocab] at `sites`."""
    return network(xt, sigma=sigma, attend=attend, sites=sites)


FAMILY = Family(
    call=call,
    lengths=lambda config: range(1, sys.maxsize),
    length=lambda config: config.length,
    time_free=lambda config: not config.time_conditioning,
    padding=True,
    lora=("attn_qkv", "attn_out"),
    config=DiTConfig,
    network=DiT,
    cached_call=cached_call,
)
