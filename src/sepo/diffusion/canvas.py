"""A canvas: the sequences to be filled. Prompts, padding, scaffolds and clues are sites that are not free."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.process import Process
from sepo.ops import Chance
from sepo.record import Record
from sepo.typing import Bool, Sites, Tokens


@dataclass(frozen=True, eq=False)
class Canvas(Record):
    """`tokens` hold what is given; `free` marks what is sampled; `attend` is False at padding (None: no padding)."""

    tokens: Tokens
    free: Sites
    attend: Bool[Tensor, "batch length"] | None = None

    @staticmethod
    def blank(batch: int, length: int, device: torch.device | str = "cpu") -> Canvas:
        """Nothing given: unconditional sampling."""
        tokens = torch.zeros(batch, length, dtype=torch.long, device=device)
        return Canvas(tokens, torch.ones_like(tokens, dtype=torch.bool))

    def repeat(self, times: int) -> Canvas:
        """Each row `times` times in a row: the group of a prompt."""
        return self.map(lambda tensor: tensor.repeat_interleave(times, dim=0))

    def start(self, process: Process, chance: Chance) -> Tokens:
        """The state at t = 1: free sites from the limit law."""
        return process.noise(self.tokens, self.free, chance)
