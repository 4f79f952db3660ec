r"""What a state has already decided of the return, by regression on the collection itself: no network, no evaluation.

    f(z_j) = trust x w . (one-hot tokens revealed in z_j)

w is a ridge regression of the returns from step j on, all steps together, on the tokens that are there before them. f
is subtracted from the return before the baseline of the group. A half of each group is rated by what the other half
teaches, so that f knows nothing of what its own sequence draws later and biases no gradient. How far it is followed is
found within that half, too: tokens that tell nothing are not listened to. For a reward to which every site adds, what
is taken away is most of the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.typing import Float

Returns = Float[Tensor, "batch steps"]
Features = Float[Tensor, "batch steps features"]

MOST_FEATURES = 1024
"""Sites times token ids; beyond it nothing is fitted."""


@dataclass(frozen=True)
class StateRegression:
    """ridge: penalty, in units of the mean variance of a feature; evidence: standard errors by which it must help."""

    ridge: float = 0.3
    evidence: float = 2.0

    def __call__(self, features: Features, returns: Returns, size: int) -> Returns:
        """f of every state; returns: NaN where there are none, consecutive groups of `size`."""
        if features.shape[-1] > MOST_FEATURES or size < 4:
            return torch.zeros_like(returns)
        features = features.to(returns.dtype)
        row = torch.arange(len(returns), device=returns.device)
        found = torch.zeros_like(returns)
        for fold in (0, 1):
            mine, others, part = row % 2 == fold, row % 2 != fold, row // 2 % 2 == 0
            trust = self._trust(features, returns, others & part, others & ~part, size)
            if trust > 0:
                found[mine] = trust * (features[mine] @ self._slope(features, returns, others, size))
        return found

    def _slope(self, features: Features, returns: Returns, train: Tensor, size: int) -> Float[Tensor, " features"]:
        """Fitted on the marked rows, each compared with those of its group at the same step."""
        x, y = _centred(features, returns, train, size)
        x, y = x.flatten(0, 1), y.flatten()
        gram = x.T @ x
        scale = gram.diagonal().mean().clamp_min(1e-9)
        gram.diagonal().add_(self.ridge * scale)
        return torch.linalg.solve(gram, x.T @ y)

    def _trust(self, features: Features, returns: Returns, first: Tensor, second: Tensor, size: int) -> Tensor:
        """The best factor, 0 to 1, when each of two parts is predicted by the other; 0 unless it clearly helps."""
        product, square = returns.new_zeros(len(returns)), returns.new_zeros(())
        for train, rate in ((first, second), (second, first)):
            x, y = _centred(features, returns, rate, size)
            told = x @ self._slope(features, returns, train, size)
            product, square = product + (y * told).sum(1), square + told.square().sum()
        number = (first | second).sum()
        total, error = product.sum(), product[first | second].std() * number.sqrt()
        best = (total / square.clamp_min(1e-12)).clamp(0.0, 1.0)
        return torch.where(total > self.evidence * error, best, 0.0)


def revealed_tokens(rollout: Rollout, steps: int, process: Process) -> Features:
    """One-hot tokens at the free sites that are there before each step; of all of them where a path revisits sites."""
    step = torch.arange(steps, device=rollout.x0.device)
    if isinstance(rollout, MaskedPath):
        tokens = rollout.x0.unsqueeze(1)
        there = ~rollout.masked(step.expand(len(rollout.x0), -1))
    else:
        tokens = rollout.states[:, :steps]
        there = tokens != process.mask if isinstance(process, Absorbing) else torch.ones_like(tokens, dtype=torch.bool)
    told = functional.one_hot(tokens, process.size) * (there & rollout.canvas.free.unsqueeze(1)).unsqueeze(-1)
    return told.flatten(2).float()


def _centred(features: Features, returns: Returns, rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Features and returns less their means over the marked rows of each group and step; 0 elsewhere."""
    known = (rows.unsqueeze(1) & ~returns.isnan()).to(returns.dtype).unsqueeze(-1)

    def centred(values: Tensor) -> Tensor:
        grouped = (values * known).unflatten(0, (-1, size))
        count = known.unflatten(0, (-1, size)).sum(1, keepdim=True).clamp_min(1)
        return (values - (grouped.sum(1, keepdim=True) / count).expand_as(grouped).flatten(0, 1)) * known

    return centred(features), centred(returns.nan_to_num(0.0).unsqueeze(-1)).squeeze(-1)
