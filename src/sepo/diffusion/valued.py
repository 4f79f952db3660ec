"""A lens on a network that also says what states are worth: logits for the policy, values for whoever listens.

Such a network returns (logits, values), one value per site that passed its head: what the sequence will be worth if
that site is the next to be filled. Policies are read through the lens as ever; `read_with_value` hears the values of
the same forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.views import Reading, Views
from sepo.ops import rows
from sepo.typing import Float, Int, Sites, Time, Tokens

Heard = list[tuple[Tensor, Tensor | None]]
"""Values [batch k] and the sites [batch k] that they belong to (None: all), one entry per forward."""


@dataclass(frozen=True)
class Valued:
    """The call of a network that returns (logits, values); the values go to `heard`, where somebody listens."""

    heard: Heard | None = None

    def __call__(
        self,
        network: nn.Module,
        xt: Tokens,
        sigma: Time,
        attend: Sites | None = None,
        sites: Int[Tensor, "batch k"] | None = None,
    ) -> Float[Tensor, "batch sites vocab"]:
        logits, values = network(xt, sigma, attend, sites)
        if self.heard is not None:
            self.heard.append((values, sites))
        return logits


def read_with_value(policy: Denoiser, views: Views, reading: Callable[[Denoiser, Views], Reading]) -> Reading:
    """The reading, with the value of each view: the weighted mean over the sites that are rated there.

    Where one site of each state is rated, that is the value given which site comes next; where all masked sites are, it
    is the value of the state. Views without a rated site have value 0.

    Raises:
        ValueError: the network has no critic, or the reading is no single evaluation per view.
    """
    if not isinstance(policy.call, Valued):
        raise ValueError(
            f"This {type(policy.network).__name__} has no critic, so that there are no values to read: set "
            "use_critic=True, or give a Denoiser with call=Valued() whose network returns (logits, values)."
        )
    heard: Heard = []
    found = reading(replace(policy, call=Valued(heard)), views)
    if len(heard) != 1:
        raise ValueError(
            f"This reading evaluates the network {len(heard)} times per view, so that it is not known which value "
            "counts; choose a reading with one evaluation per view, such as next_site."
        )
    values, sites = heard[0]
    weight = views.weight.flatten(0, 1)
    weight = (weight if sites is None else rows(weight, sites)).to(values.dtype)
    mean = (weight * values).sum(-1) / weight.sum(-1).clamp_min(1e-12)
    return replace(found, value=mean.view(views.t.shape))
