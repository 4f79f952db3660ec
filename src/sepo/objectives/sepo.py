r"""SEPO: Score Entropy Policy Optimization (Zekri and Boulle, arXiv 2502.01384, Theorem 3.1 and Algorithm 1).

The theorem, grad E[R] = -E_x R(x) sum_y q(y) grad log s(x)_y, holds for y over all sequences and has to be restricted.
With y over one site's candidates N_i = {z[i := v]}, z a state of the path and x_i the token that appeared, q(y | N_i)
is known in closed form,

    sum_v q(v | N_i) log s(z[i := x_i])_v  with  log s = log p(v | z) - log p(x_i | z),  q(v | N_i) = p(v | z),

and its gradient is -grad log p(x_i | z), because sum_v p(v) grad log p(v) = 0. So the minimised term
A w(r) sum_v q(v) log s_v, w detached, is -A w(r) log p(x_i | z) as far as its gradient goes, and with the closed form
this is what is computed: no law over the vocabulary is held. The path's product of such terms is the probability of the
rollout, so that with `NextSite` the gradient is the exact policy gradient of the sampler.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.algorithm import Paper
from sepo.objectives.base import Loss, Objective, per_sequence
from sepo.objectives.credit import Credit
from sepo.objectives.levels import Level, step, token
from sepo.objectives.neighbours import LocalSoftmax, Neighbours
from sepo.objectives.readings import NextSite, Where
from sepo.objectives.surrogate import Surrogate, ratio_metrics
from sepo.objectives.weights import ScoreClip, Weight
from sepo.ops import Chance

LEVELS: dict[str, Level] = {"token": token, "step": step}
"""At which the ratio may be taken here."""


@dataclass(frozen=True)
class SEPO(Objective):
    """reading: where the score is read; weight: how the ratio to the old policy enters (paper: ScoreClip).

    neighbours: how q(y) is found; only with the closed form are the ratio's own gradient (PPOClip) and the level step
    defined. level: token, a ratio r_i for each site, as published; step, one for the sites that a step decides
    together, r = prod r_i, whose term is -A w(r) sum log p(x_i | z).
    """

    paper: ClassVar[Paper] = Paper("Fine-Tuning Discrete Diffusion Models with Policy Gradient Methods", "2502.01384")

    reading: Where = field(default_factory=NextSite)
    weight: Weight = field(default_factory=ScoreClip)
    neighbours: Neighbours = field(default_factory=LocalSoftmax)
    level: Level = token

    def __post_init__(self) -> None:
        self._require_level()
        if not (self._closed_form or isinstance(self.weight, ScoreClip)):
            raise ValueError(
                f"{type(self.neighbours).__name__} weighs neighbours of a score, which goes with ScoreClip, but the "
                f"weight is {type(self.weight).__name__}; choose neighbours=LocalSoftmax() or weight=ScoreClip()."
            )

    def _require_level(self) -> None:
        if self.level not in LEVELS.values():
            raise ValueError(
                f"level={self.level!r}: other levels take one ratio for several states, whose advantages may differ; "
                "choose the function token or step of sepo.objectives.levels."
            )
        if self.level is step and not self.reading.of_steps:
            raise ValueError(
                f"{type(self.reading).__name__} rates sites that no step has decided together, so that there is no "
                "ratio per step; choose reading='next_site', 'merged' or 'transitions', or "
                "importance_sampling_level='token'."
            )
        if self.level is step and not self._closed_form:
            raise ValueError(
                f"{type(self.neighbours).__name__} weighs neighbours of one site, but the ratio per step takes several "
                "sites together; choose neighbours='local_softmax' or importance_sampling_level='token'."
            )

    @property
    def _closed_form(self) -> bool:
        return isinstance(self.neighbours, LocalSoftmax)

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return not self._closed_form

    @property
    def reads_rollout(self) -> bool:
        return self.reading.reads_rollout

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        views = self.reading(rollout, process, chance)
        if not self.neighbours.draws:
            return views
        _, count, length = views.xt.shape
        return replace(views, draws=chance.uniform(count, length, self.neighbours.draws))

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        return self.reading.read(policy, views, whole or self.whole)

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        if self._closed_form:
            return Surrogate(self.reading, self.weight, self.level).loss(new, old, reference, credit, views)
        assert new.log_law is not None
        log_ratio = new.log_prob - old.log_prob
        advantage = credit.per_site.to(log_ratio.dtype)
        log_score = self.neighbours.log_score(new.log_law, new.log_prob, views.draws)
        value = per_sequence(views.weight * self.weight(-log_score, log_ratio, advantage))
        return Loss(value, ratio_metrics(log_ratio, advantage, views.weight, self.weight))
