r"""How SEPO weighs the neighbours y of a sequence x: the q(y) in  sum_y q(y) w log s(x)_y.

At one site the neighbours are the candidates v of that site, with log s_v = log p(v) - log p(x_i) and

    LocalSoftmax   q(v) = s_v / sum_u s_u, known in closed form
    Uniform        q(v) = 1 / (number of candidates)
    SNIS(M)        M candidates drawn uniformly, weighted by s_v / sum over the drawn of s_u: it tends to LocalSoftmax

(Fine-Tuning Discrete Diffusion Models with Policy Gradient Methods, arXiv 2502.01384, section 3.2, where the sum runs
over all sequences.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sepo.typing import Float

LogLaw = Float[Tensor, "batch view length vocab"]
PerSite = Float[Tensor, "batch view length"]


@runtime_checkable
class Neighbours(Protocol):
    @property
    def draws(self) -> int:
        """Uniform numbers per site that it needs."""
        ...

    def log_score(self, log_law: LogLaw, log_prob: PerSite, draws: Tensor | None) -> PerSite:
        """sum_v q(v) log s_v, q without gradient; log_law holds -inf where no candidate is."""
        ...


@dataclass(frozen=True)
class LocalSoftmax:
    draws = 0

    def log_score(self, log_law: LogLaw, log_prob: PerSite, draws: Tensor | None) -> PerSite:
        return weighted(log_law.detach().softmax(-1), log_law) - log_prob


@dataclass(frozen=True)
class Uniform:
    draws = 0

    def log_score(self, log_law: LogLaw, log_prob: PerSite, draws: Tensor | None) -> PerSite:
        possible = (log_law > -torch.inf).to(log_law.dtype)
        return weighted(possible / possible.sum(-1, keepdim=True).clamp_min(1), log_law) - log_prob


@dataclass(frozen=True)
class SNIS:
    """draws: M, candidates per site."""

    draws: int = 2

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"SNIS(draws={self.draws}): needs at least 1 candidate per site.")

    def log_score(self, log_law: LogLaw, log_prob: PerSite, draws: Tensor | None) -> PerSite:
        assert draws is not None
        possible = (log_law > -torch.inf).cumsum(-1)
        number = possible[..., -1:]
        wanted = (draws * number).floor().to(possible.dtype) + 1
        candidates = torch.searchsorted(possible, wanted).clamp_max(log_law.shape[-1] - 1)
        chosen = log_law.gather(-1, candidates)
        return weighted(chosen.detach().softmax(-1), chosen) - log_prob


NEIGHBOURS: dict[str, type] = {"local_softmax": LocalSoftmax, "uniform": Uniform, "snis": SNIS}


def weighted(weight: LogLaw, log_law: LogLaw) -> PerSite:
    """sum_v weight log_law, with 0 * -inf = 0."""
    return (weight * log_law.masked_fill(weight == 0, 0.0)).sum(-1)
