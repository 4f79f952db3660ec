r"""TraceRL: Revolutionizing Reinforcement Learning Framework for Diffusion Large Language Models (arXiv 2509.06949).

The trace of a rollout is shrunk: `shrink` consecutive steps become one view, read at their first state, tokens with
PPO's clip; a k3 term to the OLD policy keeps the inner updates close. A view counts as much as another, however many
tokens it reveals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.advantages import Advantage, group, mean
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Loss, Objective, Penalty, Total, per_sequence
from sepo.objectives.credit import Credit
from sepo.objectives.penalties import k3
from sepo.objectives.readings import Merged
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip
from sepo.ops import Chance


@dataclass(frozen=True)
class OldKL(Penalty):
    """k3 of the old policy, summed over tokens."""

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        value = per_sequence((views.weight != 0) * k3(old.log_prob - new.log_prob))
        return Loss(value, {"old_kl_term": value.detach()})


@dataclass(frozen=True)
class EqualViews(Merged):
    """Merged, with the tokens of a view sharing the weight 1 / (number of views)."""

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        views = super().__call__(rollout, process, chance)
        count = views.weight.sum(-1, keepdim=True)
        return replace(views, weight=views.weight / count.clamp_min(1) / (count > 0).sum(1, keepdim=True).clamp_min(1))


@dataclass(frozen=True)
class TraceRL(Algorithm):
    """shrink: steps per view; old_kl_coef: weight of the k3 term to the old policy."""

    paper = Paper("Revolutionizing Reinforcement Learning Framework for Diffusion Large Language Models", "2509.06949")
    needs = "paths"

    shrink: int = 8
    epsilon: float = 0.2
    old_kl_coef: float = 0.01

    def objective(self) -> Objective:
        surrogate = Surrogate(EqualViews(None, self.shrink), PPOClip(self.epsilon))
        return Total(surrogate, ((self.old_kl_coef, OldKL()),)) if self.old_kl_coef else surrogate

    def advantage(self) -> Advantage:
        return Advantage(mean, group)
