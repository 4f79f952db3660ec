"""Left-to-right sampling of masks: one site per evaluation in reading order, as an autoregressive model would.

JustGRPO (Just GRPO for Diffusion Language Models) draws its rollouts so, where the likelihood of a sequence is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance
from sepo.samplers.base import Move
from sepo.samplers.filling import fill, require_absorbing


@dataclass(frozen=True)
class LeftToRight:
    """`steps=None`: one site per step; fewer steps reveal equal runs of neighbours together."""

    steps: int | None = None
    revisits = False
    ordered = True
    exact_density = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"LeftToRight(steps={self.steps}): needs at least 1 step, or None for one site per step.")

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        process = require_absorbing(policy, "LeftToRight")
        free = canvas.free.sum(1, keepdim=True)
        steps = int(free.max()) if self.steps is None else min(self.steps, int(free.max()))
        shares = free.clamp_max(steps)
        rank = canvas.free.cumsum(1) - 1
        order = torch.div(rank * shares, free, rounding_mode="floor").masked_fill(~canvas.free, -1)
        masked = (order.unsqueeze(1) >= torch.arange(steps, device=free.device)[:, None]).sum(-1)
        noise = masked / free * (1 - process.schedule.alpha(torch.ones((), device=free.device)))
        return fill(policy, canvas, order, process.schedule.time(1 - noise).clamp(0.0, 1.0), chance)
