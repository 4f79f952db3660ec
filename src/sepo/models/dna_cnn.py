"""The family of the dilated convolutional network for DNA."""

from __future__ import annotations

import sys

from jaxtyping import Float, Int
from torch import Tensor, nn

from sepo.models.family import Family
from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.typing import LogProbs, Sites, Time, Tokens


def call(
    network: nn.Module,
    xt: Tokens | LogProbs,
    sigma: Time,
    attend: Sites | None = None,
    sites: Int[Tensor, "batch k"] | None = None,
) -> Float[Tensor, "batch sites vocab"]:
    """Logits [batch length vocab], or [batch k vocab] at `sites`; xt may be one-hot floats [batch length vocab]."""
    return network(xt, sigma=sigma, attend=attend, sites=sites)


FAMILY = Family(
    call=call,
    lengths=lambda config: range(1, sys.maxsize),
    length=lambda config: config.length,
    time_free=lambda config: not config.time_conditioning,
    padding=True,
    lora=("linear", "dense", "final_conv.0"),
    config=DnaCnnConfig,
    network=DnaCnn,
)
