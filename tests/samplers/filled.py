"""Paths of confidence decoding."""

from __future__ import annotations

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.rollout import MaskedPath
from sepo.ops import Chance
from sepo.samplers import Confidence, roll


def drawn(sampler: Confidence, policy: Denoiser, canvas: Canvas, seed: int = 0) -> MaskedPath:
    path = roll(sampler, policy, canvas, Chance.of(seed, len(canvas)))
    assert isinstance(path, MaskedPath)
    return path
