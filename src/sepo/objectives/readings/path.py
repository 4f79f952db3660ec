"""Readings along the path that the sampler took.

NextSite   at states of the path, the sites that appeared there; the sampler's policy gradient on any network
AllSites   at states of the path, every masked site; the same mean for a consistent network only
Merged     the path cut into segments, each read at its first state: fewer evaluations, mean-field inside a segment
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sepo.diffusion.likelihood import mask_views, state_views
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Views
from sepo.objectives.readings.base import Where, check_states, choose_states, masked_path
from sepo.ops import Chance


@dataclass(frozen=True)
class NextSite(Where):
    """`states` of the states in which something appeared, stratified, reweighted: sums stay unbiased. None: all."""

    states: int | None = 16
    reads_rollout = True
    of_steps = True

    def __post_init__(self) -> None:
        check_states(self.states)

    @property
    def partial(self) -> bool:
        return self.states is not None

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        path, process = masked_path(rollout, process)
        steps, share = choose_states(path, self.states, chance)
        return state_views(path, steps, process, share)


@dataclass(frozen=True)
class AllSites(Where):
    """The same states, every masked site weighted by (number revealed) / (number masked).

    Of an ordered path, where no other site could have appeared, it is NextSite.
    """

    states: int | None = 16

    def __post_init__(self) -> None:
        check_states(self.states)

    @property
    def partial(self) -> bool:
        return self.states is not None

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        path, process = masked_path(rollout, process)
        steps, share = choose_states(path, self.states, chance)
        views = state_views(path, steps, process, share)
        return replace(views, weight=views.hazard)


@dataclass(frozen=True)
class Merged(Where):
    """`segments` equal parts of the path (None: of `size` steps each); what a part reveals is read at its start.

    d2's StepMerge cuts into a fixed number of segments (arXiv 2509.21474), TraceRL shrinks by a fixed number of steps
    (arXiv 2509.06949). One step per segment is NextSite with every state.
    """

    segments: int | None = 8
    size: int = 1
    of_steps = True

    def __post_init__(self) -> None:
        check_states(self.segments)
        if self.size < 1:
            raise ValueError(f"Merged(size={self.size}): a segment has at least 1 step of the path.")

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        path, process = masked_path(rollout, process)
        parts = -(-path.steps // self.size) if self.segments is None else min(self.segments, path.steps)
        part = torch.arange(parts, device=path.x0.device)
        if self.segments is None:
            first = part * self.size
        else:
            first = torch.div(part * path.steps + parts - 1, parts, rounding_mode="floor")
        end = torch.cat([first[1:], first.new_full((1,), path.steps)])
        order = path.order.unsqueeze(1)
        masked = order >= first[:, None]
        revealed = (masked & (order < end[:, None])).float()
        views = mask_views(path.x0, masked, revealed, path.canvas.free, path.canvas.attend, process)
        return replace(views, hazard=path.hazard(masked, revealed), step=first.expand(len(path.x0), -1))
