r"""ReMDM: remasking masked diffusion (arXiv 2503.00307): ancestral steps in which a token may become a mask again.

    token   stays with probability 1 - sigma, else is masked
    mask    is filled with probability (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)

Every sigma up to min(1, (1 - alpha_s) / alpha_t) keeps the marginals q_s. `cap`: sigma = min(eta, that);
`rescale`: sigma = eta x that. The paper's `conf`, which remasks by the confidence with which a token was once drawn,
depends on more than the state, so that its steps cannot be rated, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance
from sepo.samplers.base import Move, Steps, resample
from sepo.samplers.filling import require_absorbing
from sepo.typing import LogProbs, Sites, Tokens

STRATEGIES = ("cap", "rescale")


@dataclass(frozen=True)
class ReMDM:
    """steps: of the grid from 1 to 0; eta: how much is remasked, 0 (ancestral) to 1; strategy: cap or rescale."""

    steps: int = 128
    eta: float = 0.1
    strategy: str = "rescale"
    revisits = True
    exact_density = True

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.eta <= 1:
            raise ValueError(f"ReMDM(steps={self.steps}, eta={self.eta}): needs at least 1 step and eta from 0 to 1.")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r}: choose one of {', '.join(STRATEGIES)}.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        require_absorbing(policy, "ReMDM")
        return resample(self, policy, canvas, chance)

    def kernel(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step` of each row, given all sites before: probabilities."""
        process = require_absorbing(policy, "ReMDM")
        t = 1 - step / self.steps
        alpha_t, alpha_s = process.schedule.alpha(t), process.schedule.alpha((t - 1 / self.steps).clamp_min(0.0))
        last = step == self.steps - 1
        sigma = torch.where(last, 0.0, self._sigma(alpha_t, alpha_s))
        fill = torch.where(last, 1.0, (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t))
        law = policy.log_posterior(xt, t, attend).exp()
        masked = (xt == process.mask).unsqueeze(-1)
        moved = torch.where(masked, fill[:, None, None], (1 - sigma)[:, None, None]) * law
        stays = torch.where(masked[..., 0], (1 - fill).unsqueeze(1), sigma.unsqueeze(1))
        return moved.index_copy(-1, torch.tensor([process.mask], device=xt.device), stays.unsqueeze(-1).to(law.dtype))

    def _sigma(self, alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
        most = ((1 - alpha_s) / alpha_t.clamp_min(1e-12)).clamp_max(1.0)
        return most.clamp_max(self.eta) if self.strategy == "cap" else self.eta * most
