r"""At which level the ratio to the old policy is taken: a log-ratio per site becomes one per token, step or sequence.

Token      r_i = p(x_i) / p_old(x_i)                                       PPO and GRPO on tokens; first order only
Site       the views of a site added up with their weights first           coupled-GRPO (arXiv 2506.20639)
Step       the sites of a view together: p(x_s | x_t) / p_old(x_s | x_t)    DDPO (arXiv 2305.13301) on denoising steps
Sequence   exp((log p - log p_old) / L), views added up with their weights  GSPO (arXiv 2507.18071), ESPO (2512.03759)
Path       the same without the division: with every state the ratio of the path's laws, the only unbiased weight
           off policy
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sepo.diffusion.views import Views
from sepo.typing import Float

Level = Callable[[Tensor, Views], tuple[Tensor, Tensor]]
"""level(log_prob [batch view length], views) -> (log_prob, weight) that broadcast to it and have one entry per unit."""

PerSite = Float[Tensor, "batch view length"]


def token(log_prob: PerSite, views: Views) -> tuple[Tensor, Tensor]:
    return log_prob, views.weight


def site(log_prob: PerSite, views: Views) -> tuple[Tensor, Tensor]:
    summed = (views.weight * log_prob).sum(1, keepdim=True)
    return summed, (views.weight != 0).any(1, keepdim=True).to(summed.dtype)


def step(log_prob: PerSite, views: Views) -> tuple[Tensor, Tensor]:
    """The sites of a view have equal weights, or weights relative to the largest."""
    most = views.weight.amax(-1, keepdim=True)
    return (views.weight / most.clamp_min(1e-12) * log_prob).sum(-1, keepdim=True), most


def sequence(log_prob: PerSite, views: Views) -> tuple[Tensor, Tensor]:
    summed, one = path(log_prob, views)
    return summed / views.free.sum(1).clamp_min(1)[:, None, None], one


def path(log_prob: PerSite, views: Views) -> tuple[Tensor, Tensor]:
    summed = (views.weight * log_prob).sum((1, 2), keepdim=True)
    return summed, summed.new_ones(summed.shape)
