"""Rewards at inference: plain functions of tokens or of soft tokens, with a count of their calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sepo.diffusion.soft import Mixture
from sepo.typing import Float, PerSequence, Tokens

TokenReward = Callable[[Tokens], PerSequence]
"""reward(whole rows of the canvas, prompts included [batch length]) -> [batch], larger is better."""

SoftReward = Callable[[Mixture], PerSequence]
"""reward(shares of letters [batch length vocab], the mask's column 0) -> [batch], with a gradient, each row for itself.
"""


@dataclass(eq=False)
class Counted:
    """A reward, of tokens or soft tokens, that knows how many sequences it has scored."""

    reward: Callable[[Any], Any]
    calls: int = 0

    def __call__(self, sequences: Tensor) -> Any:
        self.calls += len(sequences)
        return self.reward(sequences)


def score(reward: Callable[[Any], Any], sequences: Tensor) -> Float[Tensor, " batch"]:
    """The reward of each sequence in float64.

    Raises:
        ValueError: it is not one finite number per sequence.
    """
    found = torch.as_tensor(reward(sequences), device=sequences.device).double()
    if found.shape != sequences.shape[:1]:
        raise ValueError(
            f"The reward returned shape {tuple(found.shape)} for {len(sequences)} sequences: return one number each."
        )
    broken = ~found.isfinite()
    if broken.any():
        raise ValueError(
            f"The reward is not finite for {int(broken.sum())} of {len(sequences)} sequences, such as "
            f"{float(found[broken][0])}: weights need finite numbers; give what is forbidden a low one."
        )
    return found
