"""First-hitting sampling: one uniformly random masked site per evaluation. Exact for masked diffusion, on any network.

(Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical Sampling, arXiv
2409.02908, algorithm 1.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance
from sepo.samplers.base import Move
from sepo.samplers.filling import fill, hitting_times, require_absorbing


@dataclass(frozen=True)
class FirstHitting:
    """All free sites in random order. `steps=None`: one site per step.

    Fewer steps reveal equal shares of the sites together, independently of each other given the state; each row takes
    at most `steps` evaluations.
    """

    steps: int | None = None
    revisits = False
    exact_density = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"FirstHitting(steps={self.steps}): needs at least 1 step, or None for one site per step.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        require_absorbing(policy, "FirstHitting")
        hits, ranked = hitting_times(policy, canvas, chance).sort(dim=1, descending=True)
        rank = ranked.argsort(dim=1)
        free = canvas.free.sum(1, keepdim=True)
        steps = int(free.max()) if self.steps is None else min(self.steps, int(free.max()))
        shares = free.clamp_max(steps)
        order = torch.div(rank * shares, free, rounding_mode="floor").masked_fill(~canvas.free, -1)
        opening = torch.arange(steps, device=free.device) * free
        first = torch.div(opening + shares - 1, shares, rounding_mode="floor").clamp_max(hits.shape[1] - 1)
        return fill(policy, canvas, order, hits.gather(1, first).clamp_min(0.0), chance)
