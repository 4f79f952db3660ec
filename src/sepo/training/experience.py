"""What a collection hands to the loss: rollouts, their credit, and the views at which they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives import Credit
from sepo.ops import rows
from sepo.record import Record


@dataclass(frozen=True, eq=False)
class Experience(Record):
    """The sequences of a micro-batch: their credit at the views, the views, and the old policy's reading of them.

    old is None where the old policy is the new one, so that its reading is the new one's without gradient. replay: of
    elites that are learned again, as many.
    """

    credit: Credit
    views: Views
    old: Reading | None = None
    replay: Views | None = None

    def old_reading(self, new: Reading) -> Reading:
        return new.detach() if self.old is None else self.old


def restored(found: Mapping[str, Tensor]) -> Experience:
    """The experience whose `tensors()` were stored."""

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): tensor for key, tensor in found.items() if key.startswith(f"{name}.")}

    old, replay = part("old"), part("replay")
    return Experience(
        Credit(**part("credit")),
        Views(**part("views")),
        Reading(**old) if old else None,
        Views(**replay) if replay else None,
    )


def rollout_reading(rollout: Rollout, views: Views) -> Reading:
    """The rollout's own log-probabilities as a reading of views of its steps; it costs no evaluation."""
    if isinstance(rollout, MaskedPath):
        return Reading(torch.where(views.weight != 0, rollout.log_prob.unsqueeze(1), 0.0))
    assert views.step is not None
    return Reading(torch.where(views.weight != 0, rows(rollout.log_prob, views.step), 0.0))
