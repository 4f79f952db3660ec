"""The family of the small convolutional network for images of tokens."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sepo.models.family import Family
from sepo.models.networks.grid import GridConfig, GridNetwork
from sepo.typing import Sites, Time, Tokens


def call(
    network: nn.Module,
    xt: Tokens,
    sigma: Time,
    attend: Sites | None = None,
    sites: Int[Tensor, "batch k"] | None = None,
) -> Float[Tensor, "batch sites vocab"]:
    """Logits [batch length vocab], or [batch k vocab] at `sites`; images are read row by row and know no padding."""
    return network(xt, sigma=sigma, attend=attend, sites=sites)


FAMILY = Family(
    call=call,
    lengths=lambda config: range(config.height * config.width, config.height * config.width + 1),
    length=lambda config: config.height * config.width,
    time_free=lambda config: True,
    padding=False,
    lora=("conv1", "conv2"),
    config=GridConfig,
    network=GridNetwork,
)
