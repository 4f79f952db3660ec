"""The family of the bidirectional transformer with pluggable positions."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PretrainedConfig

from sepo.models.cached import cached_call
from sepo.models.family import Family
from sepo.models.networks.positions import Rotary, from_json
from sepo.models.networks.transformer import Transformer, TransformerConfig
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


def _length(config: PretrainedConfig) -> int | None:
    position = from_json(config.position)
    return None if isinstance(position, Rotary) else position.lengths[-1]


FAMILY = Family(
    call=call,
    lengths=lambda config: from_json(config.position).lengths,
    length=_length,
    time_free=lambda config: not config.time_conditioning,
    padding=True,
    lora=("qkv", "out"),
    config=TransformerConfig,
    network=Transformer,
    cached_call=cached_call,
)
