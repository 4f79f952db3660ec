r"""Penalties at the views that an objective chose.

In closed form at a state of the path, over the whole vocabulary at every site that may change:

    path KL    sum over states of (reveal probability) x sum over masked sites of KL(p_theta || p_ref)
    entropy    the same with the entropy of p_theta, to be maximised

Where the state says which sites come next (from left to right, by confidence), the sum is over these alone.

From the tokens that were drawn, with d = log p_ref - log p_theta at common views (http://joschu.net/blog/kl-approx.html):

    k1 = -d        k2 = d^2 / 2        k3 = exp(d) - 1 - d

As loss terms they forget that the policy also chooses the states it visits: with the KL alone training stops beside
p_ref exp(R / beta) / Z. The exact gradient has the path's log-ratio in the return (see `sepo.training.collector`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sepo.diffusion.views import Reading, Views
from sepo.objectives.base import Loss, Objective, Penalty, Total, per_sequence
from sepo.objectives.credit import Credit
from sepo.objectives.levels import Level, token
from sepo.ops import divergence, entropy


@dataclass(frozen=True)
class PathKL(Penalty):
    """KL(path law || reference's path law) in nats per sequence."""

    whole = True
    uses_reference = True

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        if new.log_law is None or reference is None or reference.log_law is None:
            raise ValueError("PathKL compares whole laws: read the new and the reference policy with whole=True.")
        value = per_sequence(views.hazard * divergence(new.log_law, reference.log_law))
        return Loss(value, {"kl_term": value.detach()})


@dataclass(frozen=True)
class EntropyBonus(Penalty):
    """Minus the path entropy in nats per sequence, so that a positive weight keeps the policy spread out."""

    whole = True

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        if new.log_law is None:
            raise ValueError("EntropyBonus needs the whole law: read the new policy with whole=True.")
        value = -per_sequence(views.hazard * entropy(new.log_law))
        return Loss(value, {"entropy_term": -value.detach()})


def k1(difference: Tensor) -> Tensor:
    return -difference


def k2(difference: Tensor) -> Tensor:
    return difference.square() / 2


def k3(difference: Tensor) -> Tensor:
    return difference.exp() - 1 - difference


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


@dataclass(frozen=True)
class DrawnKL(Penalty):
    """A Monte-Carlo form of the KL to the reference, from the drawn tokens alone; average: per free site.

    As values k1 and k3 are unbiased where the tokens were drawn by the policy; as a loss term k2 has the gradient that
    k1 would have with it in the return, the gradient of k1 itself is zero on average, and that of k3 is of the reverse
    KL only at first order.
    """

    estimator: Callable[[Tensor], Tensor] = k3
    level: Level = token
    average: bool = False
    uses_reference = True

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        if reference is None:
            raise ValueError("DrawnKL compares with a reference: give one to the trainer.")
        log_prob, share = self.level(new.log_prob, views)
        ahead, _ = self.level(reference.log_prob, views)
        if self.average:
            share = share / views.free.sum(1).clamp_min(1)[:, None, None]
        value = per_sequence(share * self.estimator(ahead - log_prob))
        return Loss(value, {"kl_term": value.detach()})


def with_drawn_kl(
    objective: Objective, coef: float, level: Level = token, estimator: Callable[[Tensor], Tensor] = k3
) -> Objective:
    """The objective with a term to the reference, as a mean over tokens; coef=0: without.

    Raises:
        ValueError: the term would be a reward for leaving the reference.
    """
    if coef < 0:
        raise ValueError(f"kl_coef={coef}: must not be negative; 0 leaves the term out.")
    return Total(objective, ((coef, DrawnKL(estimator, level, average=True)),)) if coef else objective
