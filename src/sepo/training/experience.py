"""What a collection hands to the loss: rollouts, their advantages, and the views at which they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.diffusion.views import Reading, Views
from sepo.record import Record
from sepo.typing import Float, PerSequence


@dataclass(frozen=True, eq=False)
class Experience(Record):
    """The sequences of a micro-batch: advantage [batch], views, and the old policy's log-probabilities there.

    old is None where the old policy is the new one, so that its reading is the new one's without gradient.
    """

    advantage: PerSequence
    views: Views
    old: Float[Tensor, "batch view length"] | None = None

    def old_reading(self, new: Reading) -> Reading:
        return new.detach() if self.old is None else Reading(self.old)


def restored(found: Mapping[str, Tensor]) -> Experience:
    """The experience whose `tensors()` were stored."""
    views = {name.removeprefix("views."): tensor for name, tensor in found.items() if name.startswith("views.")}
    return Experience(found["advantage"], Views(**views), found.get("old"))


def rollout_reading(rollout: Rollout, views: Views) -> Tensor | None:
    """The rollout's own log-probabilities as a reading of next-site views; it costs no evaluation."""
    if not isinstance(rollout, MaskedPath):
        return None
    return torch.where(views.weight != 0, rollout.log_prob.unsqueeze(1), 0.0)
