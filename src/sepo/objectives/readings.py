"""Where log-probabilities are read.

NextSite     at states of the path, the sites that appeared there; the sampler's policy gradient on any network
AllSites     at states of the path, every masked site; the same mean for a consistent network only
FreshMasks   at fresh random masks, the ELBO family
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sepo.diffusion.likelihood import masked_views, state_views
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.diffusion.views import Views
from sepo.ops import Chance


@runtime_checkable
class Where(Protocol):
    """A choice of views. `reads_rollout`: the old policy's reading is the rollout's own log_prob."""

    reads_rollout: bool

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views: ...


@dataclass(frozen=True)
class NextSite:
    """`states` of the states in which something appeared, stratified, reweighted: sums stay unbiased. None: all."""

    states: int | None = 4
    reads_rollout = True

    def __post_init__(self) -> None:
        _check_states(self.states)

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        path, process = masked_path(rollout, process)
        steps, share = choose_states(path, self.states, chance)
        return state_views(path, steps, process, share)


@dataclass(frozen=True)
class AllSites:
    """The same states, every masked site weighted by (number revealed) / (number masked)."""

    states: int | None = 4
    reads_rollout = False

    def __post_init__(self) -> None:
        _check_states(self.states)

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        path, process = masked_path(rollout, process)
        steps, share = choose_states(path, self.states, chance)
        views = state_views(path, steps, process, share)
        return Views(views.xt, views.t, views.x0, views.hazard, views.hazard, views.attend)


@dataclass(frozen=True)
class FreshMasks:
    """`states` fresh masks of the finished sequence, the number masked stratified."""

    states: int | None = 4
    reads_rollout = False

    def __post_init__(self) -> None:
        if self.states is None or self.states < 1:
            raise ValueError(f"FreshMasks(states={self.states}): needs at least 1 mask per sequence.")

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        path, process = masked_path(rollout, process)
        return masked_views(path.x0, path.canvas.free, path.canvas.attend, process, chance, self.states or 1)


READINGS: dict[str, type] = {"next_site": NextSite, "all_sites": AllSites, "fresh_masks": FreshMasks}


def choose_states(path: MaskedPath, states: int | None, chance: Chance) -> tuple[Tensor, Tensor]:
    """Steps [batch view] in which something appeared, and the share [batch view] of the path's sum each stands for.

    Of n such steps, one is drawn in each of K strata of n / K; a step that stands in two strata is drawn as often as
    it should be on average. Rows with fewer than K steps read each once; their other views have share 0.
    """
    active = path.active()
    n = active.sum(1, keepdim=True)
    k = n if states is None else n.clamp_max(states)
    stratum = torch.arange(int(k.max()), device=n.device)
    within = 0.5 if states is None else chance.uniform(states)[:, : len(stratum)]
    position = (stratum + within) * n.double() / k
    steps = (~active).to(torch.int8).argsort(dim=1, stable=True).gather(1, position.long().clamp(max=n - 1))
    return steps, torch.where(stratum < k, (n / k).float(), 0.0)


def masked_path(rollout: Rollout, process: Process) -> tuple[MaskedPath, Absorbing]:
    if not isinstance(rollout, MaskedPath) or not isinstance(process, Absorbing):
        raise ValueError(
            f"This reading needs a path of the absorbing process, but the model's process is {type(process).__name__}; "
            "fine-tuning a uniform process is not supported yet."
        )
    return rollout, process


def _check_states(states: int | None) -> None:
    if states is not None and states < 1:
        raise ValueError(f"states={states}: at least 1 state of each path must be read; None reads all.")
