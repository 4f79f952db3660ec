r"""Penalties in closed form at a state of the path, over the whole vocabulary at every masked site.

    path KL    sum over states of (reveal probability) x sum over masked sites of KL(p_theta || p_ref)
    entropy    the same with the entropy of p_theta, to be maximised

As loss terms they forget that the policy also chooses the states it visits: with the KL alone training stops beside
p_ref exp(R / beta) / Z. The exact gradient has the path's log-ratio in the return (see `sepo.training.collector`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sepo.diffusion.views import Reading, Views
from sepo.objectives.base import Loss, Penalty, per_sequence
from sepo.ops import divergence, entropy
from sepo.typing import PerSequence


@dataclass(frozen=True)
class PathKL(Penalty):
    """KL(path law || reference's path law) in nats per sequence."""

    whole = True
    uses_reference = True

    def loss(self, new: Reading, old: Reading, reference: Reading | None, advantage: PerSequence, views: Views) -> Loss:
        if new.log_posterior is None or reference is None or reference.log_posterior is None:
            raise ValueError("PathKL compares whole laws: read the new and the reference policy with whole=True.")
        value = per_sequence(views.hazard * divergence(new.log_posterior, reference.log_posterior))
        return Loss(value, {"kl_term": value.detach()})


@dataclass(frozen=True)
class EntropyBonus(Penalty):
    """Minus the path entropy in nats per sequence, so that a positive weight keeps the policy spread out."""

    whole = True

    def loss(self, new: Reading, old: Reading, reference: Reading | None, advantage: PerSequence, views: Views) -> Loss:
        if new.log_posterior is None:
            raise ValueError("EntropyBonus needs the whole law: read the new policy with whole=True.")
        value = -per_sequence(views.hazard * entropy(new.log_posterior))
        return Loss(value, {"entropy_term": -value.detach()})
