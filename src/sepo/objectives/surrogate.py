r"""The clipped surrogate on three axes: where log-probabilities are read, at which level the ratio is taken, and how it
weighs its term.

    minimise  E sum over units of  weight x clip(log p, log p - log p_old, A)

Most published methods are a choice on these axes; the files beside this one name them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.base import Loss, Objective, per_sequence, weighted_mean
from sepo.objectives.credit import Credit
from sepo.objectives.levels import Level, path, sequence, token
from sepo.objectives.readings.base import Where
from sepo.objectives.weights import Weight
from sepo.ops import Chance


@dataclass(frozen=True)
class Surrogate(Objective):
    """average: divide by the number of free sites of each sequence, as methods with a mean over tokens do."""

    reading: Where
    weight: Weight
    level: Level = token
    average: bool = False

    def __post_init__(self) -> None:
        require_whole_path(self.reading, self.level)

    @property
    def reads_rollout(self) -> bool:
        return self.reading.reads_rollout

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return self.reading(rollout, process, chance)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        return self.reading.read(policy, views, whole or self.whole)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        log_prob, share = self.level(new.log_prob, views)
        before, _ = self.level(old.log_prob, views)
        if self.average:
            share = share / views.free.sum(1).clamp_min(1)[:, None, None]
        advantage = credit.per_site.to(log_prob.dtype)
        value = per_sequence(share * self.weight(log_prob, log_prob - before, advantage))
        return Loss(value, ratio_metrics(log_prob - before, advantage, share, self.weight))


def require_whole_path(reading: Where, level: Level) -> None:
    """
    Raises:
        ValueError: the ratio of whole paths is asked for, but only some of their states are read.
    """
    if reading.partial and level in (path, sequence):
        raise ValueError(
            f"{type(reading).__name__} reads some states of each path, but the ratio of level "
            f"{level.__name__!r} is a product over all of them, which a reweighted sum over some does not give: read "
            "every state (states=None), or take the ratio per token or step."
        )


def ratio_metrics(log_ratio: Tensor, advantage: Tensor, share: Tensor, weight: Weight) -> dict[str, Tensor]:
    """How far the policy has moved where it counts, and how often the clip acts."""
    counted = share * (advantage != 0)
    ratio = log_ratio.detach().exp()
    lowest, highest = weight.bounds
    low = ((ratio < lowest) & (advantage < 0)).float()
    high = ((ratio > highest) & (advantage > 0)).float()
    return {
        "clip_ratio/low_mean": weighted_mean(low, counted),
        "clip_ratio/high_mean": weighted_mean(high, counted),
        "clip_ratio/region_mean": weighted_mean(low + high, counted),
        "ratio": weighted_mean(ratio, counted),
    }
