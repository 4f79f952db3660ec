r"""SEPO: Score Entropy Policy Optimization (Zekri and Boulle, arXiv 2502.01384, Theorem 3.1 and Algorithm 1).

The theorem, grad E[R] = -E_x R(x) sum_y q(y) grad log s(x)_y, holds for y over all sequences and has to be restricted.
With y over one site's candidates N_i = {z[i := v]}, z a state of the path and x_i the token that appeared, q(y | N_i)
is known in closed form,

    sum_v q(v | N_i) log s(z[i := x_i])_v  with  log s = log p(v | z) - log p(x_i | z),  q(v | N_i) = p(v | z),

and its gradient is -grad log p(x_i | z), because sum_v p(v) grad log p(v) = 0. So the minimised term
A w(r) sum_v q(v) log s_v, w detached, is -A w(r) log p(x_i | z) as far as its gradient goes, and this is what is
computed. The path's product of such terms is the probability of the rollout, so that with `NextSite` the gradient is
the exact policy gradient of the sampler.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.base import Loss, Objective, per_sequence, weighted_mean
from sepo.objectives.readings import NextSite, Where
from sepo.objectives.weights import ScoreClip, Weight
from sepo.ops import Chance
from sepo.typing import PerSequence


@dataclass(frozen=True)
class SEPO(Objective):
    """reading: where log-probabilities are read; weight: how the ratio to the old policy enters (paper: ScoreClip)."""

    reading: Where = field(default_factory=NextSite)
    weight: Weight = field(default_factory=ScoreClip)

    @property
    def reads_rollout(self) -> bool:
        return self.reading.reads_rollout

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        return self.reading(rollout, process, chance)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, advantage: PerSequence, views: Views) -> Loss:
        log_ratio = new.log_prob - old.log_prob
        per_site = advantage[:, None, None].to(new.log_prob.dtype)
        value = per_sequence(views.weight * self.weight(new.log_prob, log_ratio, per_site))
        counted = views.weight * (per_site != 0)
        ratio = log_ratio.detach().exp()
        lowest, highest = self.weight.bounds
        low = ((ratio < lowest) & (per_site < 0)).float()
        high = ((ratio > highest) & (per_site > 0)).float()
        metrics = {
            "clip_ratio/low_mean": weighted_mean(low, counted),
            "clip_ratio/high_mean": weighted_mean(high, counted),
            "clip_ratio/region_mean": weighted_mean(low + high, counted),
            "ratio": weighted_mean(ratio, counted),
        }
        return Loss(value, metrics)
