"""Classifier guidance: every step of an inner sampler is tilted to first order by a reward with a gradient.

The law of a step is that of `tilting.py`. The released baselines of DRAKES (arXiv 2410.13643) feed log-probabilities to
the reward, down to -1e6, and average its gradient over the batch; here they are probabilities and each row's own. The
law that comes out is near p exp(gamma r) / Z, and equal to it only in the cases that `tilting.py` names; `TDS` corrects
it with weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance, draw, pick
from sepo.samplers.base import KernelSampler, Move, Steps, start
from sepo.samplers.guided.hearing import require_kernel
from sepo.samplers.guided.scoring import SoftReward
from sepo.samplers.guided.tilting import Tilt, Tilted
from sepo.typing import LogProbs, Sites, Tokens


@dataclass(frozen=True)
class ClassifierGuidance:
    """inner: whose steps are tilted, such as Ancestral(128); gamma: 1 / beta, 0: the inner sampler; through_network: as
    in `Tilt`. A sampler with a kernel itself.

    Moves hold the log-probabilities of the guided law, which is not the policy's. Of the uniform
    process the reward sees the posterior at given sites too, because a kernel does not know them.
    """

    inner: KernelSampler
    gamma: float
    reward: SoftReward
    through_network: bool = True
    exact_density = False

    def __post_init__(self) -> None:
        require_kernel(self.inner, "ClassifierGuidance")
        if not math.isfinite(self.gamma):
            raise ValueError(f"gamma={self.gamma}: must be finite; 1 / beta aims at the law p exp(r / beta).")

    @property
    def revisits(self) -> bool:
        return self.inner.revisits

    @property
    def steps(self) -> int:
        return self.inner.steps

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        move = start(policy, canvas, chance)
        yield move
        for index in range(self.steps):
            found = self._tilted(policy, move.x, torch.full_like(move.x[:, 0], index), canvas.attend)
            x = torch.where(canvas.free, draw(found.tilted, chance.uniform(move.x.shape[1])), move.x)
            move = Move(x, found.t, pick(found.tilted, x).log().masked_fill(~canvas.free, 0.0))
            yield move

    def kernel(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step` of each row, given all sites before: probabilities."""
        return self._tilted(policy, xt, step, attend).tilted

    def _tilted(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None) -> Tilted:
        return Tilt(self.reward, self.gamma, self.through_network)(self.inner, policy, xt, step, attend)
