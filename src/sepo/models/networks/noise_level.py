"""The noise level as a vector: sinusoids of sigma and a small perceptron.

e = [cos(sigma w_k), sin(sigma w_k)], w_k = 10000^(-k/128), k = 0 .. 127;  W_2 silu(W_1 e + b_1) + b_2
(DiT, arXiv 2212.09748, section 3.2, with sigma itself in place of a step count, as in SEDD, arXiv 2310.16834).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepo.typing import Time

WAVES = 128


class NoiseLevel(nn.Module):
    """sigma [batch] -> [batch width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, last = nn.Linear(2 * WAVES, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(first, nn.SiLU(), last)

    def forward(self, sigma: Time) -> Float[Tensor, "batch width"]:
        exponents = torch.arange(WAVES, dtype=torch.float32, device=sigma.device) / WAVES
        angle = sigma.float().unsqueeze(-1) * 10_000.0**-exponents
        waves = torch.cat((angle.cos(), angle.sin()), dim=-1)
        return self.mlp(waves.to(next(self.parameters()).dtype))
