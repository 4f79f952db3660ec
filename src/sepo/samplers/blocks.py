r"""Block by block from the left: each block is sampled on what stands before it alone, as block diffusion does.

    log p(path) = sum over blocks, over steps of `inner`, over sites of the block:  log k_i(x_s | x_t, blocks before)

Blocks that are still to come are hidden from the network as padding is (`attend`), so that any network that obeys
padding takes part. An exact inner sampler makes the chain p(block | blocks before) exact (Block Diffusion, arXiv
2503.09573, eq. 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.ops import Chance
from sepo.samplers.base import KernelSampler, Move, Steps, resample
from sepo.typing import Int, LogProbs, Sites, Tokens


@dataclass(frozen=True)
class Blocks:
    """inner: with a kernel, run `blocks` times over; block_length: for DiffusionGemma its `config.canvas_length`.

    The blocks end where a row ends, padding aside; free sites lie in them alone. Blocks to come keep the noise they
    started with. What stands behind the end of a text is kept as well, and later blocks see it. The times of moves are
    those of an even grid in each block.

    `revisits`, also of masks: a state must be read as it was drawn, without the blocks to come. The kernel does so,
    readings of a path of masks do not.
    """

    inner: KernelSampler
    block_length: int
    blocks: int
    revisits = True

    def __post_init__(self) -> None:
        if not isinstance(self.inner, KernelSampler):
            raise ValueError(
                f"Blocks(inner={self.inner}): its steps have no law per site; choose a sampler with a kernel, such as "
                "Ancestral."
            )
        if self.block_length < 1 or self.blocks < 1:
            raise ValueError(
                f"Blocks(block_length={self.block_length}, blocks={self.blocks}): needs at least 1 block of 1 site."
            )

    @property
    def exact_density(self) -> bool:
        return self.inner.exact_density

    @property
    def steps(self) -> int:
        """Of all blocks; each costs one evaluation."""
        return self.blocks * self.inner.steps

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        """
        Raises:
            ValueError: a free site lies before the first block.
        """
        outside = canvas.free & (self._block(canvas.tokens, canvas.attend) < 0)
        if outside.any():
            raise ValueError(
                f"Row {int(outside.any(1).nonzero()[0])} of the canvas has free sites before its last "
                f"{self.blocks * self.block_length} tokens, but Blocks(block_length={self.block_length}, "
                f"blocks={self.blocks}) fills only these: give as many blocks as it has."
            )
        step = torch.arange(self.steps, device=canvas.tokens.device)
        return resample(self, policy, canvas, chance, 1 - step % self.inner.steps / self.inner.steps)

    def kernel(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step` of each row, given all sites before: probabilities.

        Sites outside the block of the step stay as they are. Rows may be in different blocks.
        """
        block = self._block(xt, attend)
        now = torch.div(step, self.inner.steps, rounding_mode="floor").unsqueeze(1)
        seen = block <= now
        width = int(seen.any(0).nonzero().max()) + 1
        hidden = None if bool(seen[:, :width].all()) else seen[:, :width]
        law = self.inner.kernel(policy, xt[:, :width], step % self.inner.steps, hidden)
        law = law.masked_fill((block[:, :width] != now).unsqueeze(-1), 0.0)
        law = torch.cat((law, law.new_zeros(len(xt), xt.shape[1] - width, law.shape[-1])), dim=1)
        return law.scatter_add(-1, xt.unsqueeze(-1), (block != now).unsqueeze(-1).to(law.dtype))

    def _block(self, xt: Tokens, attend: Sites | None) -> Int[torch.Tensor, "batch length"]:
        """The block of each site, counted from the left: below 0 before the first, their number in padding."""
        told = torch.ones_like(xt, dtype=torch.bool) if attend is None else attend
        behind = told.sum(1, keepdim=True) - told.cumsum(1)
        block = self.blocks - 1 - torch.div(behind, self.block_length, rounding_mode="floor")
        return block.masked_fill(~told, self.blocks)
