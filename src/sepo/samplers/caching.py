"""Keys and values that are kept while a block of sites is filled, and computed anew at each new block.

    prefix   of what stands before the block: a prompt, and the blocks that are done
    block    of what stands outside it, on both sides

The first evaluation of a block computes all sites, the others those that are not kept (Fast-dLLM: Training-free
Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding, arXiv 2505.22618, sections 3.2 and 3.3). What
is kept does not know what was filled since, so that laws are approximate (`sepo.diffusion.cached`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.cached import KeyValues, cached_call, read_all, read_at
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.typing import Float, Int, Sites, Time, Tokens

KEEP = ("prefix", "block")


@dataclass(eq=False)
class BlockCache:
    """Of one batch, whose rows may be in different blocks. Numbers of rows and blocks are on the CPU.

    first, last: site of each block that is computed again; refresh: evaluations of a block after which all is computed
    anew, None: at its first one alone; block: that each row is in, -1 before the first; age: evaluations since all of
    the row was computed.
    """

    policy: Denoiser
    first: Int[Tensor, "batch blocks"]
    last: Int[Tensor, "batch blocks"]
    refresh: int | None
    block: Int[Tensor, " batch"]
    age: Int[Tensor, " batch"]
    kept: KeyValues | None = None

    @staticmethod
    def of(
        policy: Denoiser, canvas: Canvas, blocks: Int[Tensor, "batch length"], keep: str, refresh: int | None
    ) -> BlockCache:
        """blocks: the number of the block that each site is in, -1 if it is given.

        Raises:
            ValueError: the policy cannot keep keys and values.
        """
        cached_call(policy)
        blocks = blocks.cpu()
        inside = (blocks.unsqueeze(1) == torch.arange(int(blocks.max()) + 1).unsqueeze(1)).to(torch.int8)
        first = inside.argmax(-1)
        if keep == "prefix":
            told = torch.ones_like(blocks) if canvas.attend is None else canvas.attend.cpu().to(blocks.dtype)
            inside = told.unsqueeze(1).expand_as(inside)
        last = blocks.shape[1] - 1 - inside.flip(-1).argmax(-1)
        nowhere = torch.full((len(blocks),), -1)
        return BlockCache(policy, first, last, refresh, nowhere, nowhere.clone())

    def log_posterior(
        self,
        rows: Int[Tensor, " rows"],
        block: Int[Tensor, " rows"],
        xt: Tokens,
        t: Time,
        attend: Sites | None,
        sites: Int[Tensor, "rows k"],
    ) -> Float[Tensor, "rows k vocab"]:
        """log p(x0_i = v | x_t) of some rows of the batch at `sites`, of which those in the row's block have a meaning.

        The first call is for all rows.
        """
        anew = self.block[rows] != block
        if self.refresh is not None:
            anew |= self.age[rows] >= self.refresh
        self.block[rows] = block
        self.age[rows] = torch.where(anew, 1, self.age[rows] + 1)
        if bool(anew.all()):
            return self._anew(rows, xt, t, attend, sites)
        if not bool(anew.any()):
            return self._again(rows, xt, t, attend, sites)
        order = anew.to(torch.int8).argsort(descending=True, stable=True)
        laws = []
        for read, part in ((self._anew, order[: int(anew.sum())]), (self._again, order[int(anew.sum()) :])):
            here = part.to(xt.device)
            seen = None if attend is None else attend[here]
            laws.append(read(rows[part], xt[here], t[here], seen, sites[here]))
        return torch.cat(laws)[order.argsort().to(xt.device)]

    def _anew(self, rows: Tensor, xt: Tensor, t: Tensor, attend: Tensor | None, sites: Tensor) -> Tensor:
        """All sites are computed, and their keys and values kept."""
        everyone = len(rows) == len(self.block)
        if everyone:
            self.kept = None  # or the old and the new ones would lie in memory together
        law, found = read_all(self.policy, xt, t, attend, sites)
        if self.kept is None:
            self.kept = found
        else:
            self.kept.put(rows.to(xt.device), found)
        return law

    def _again(self, rows: Tensor, xt: Tensor, t: Tensor, attend: Tensor | None, sites: Tensor) -> Tensor:
        """Of each row the sites from the first to the last of its block."""
        assert self.kept is not None
        block = self.block[rows]
        first, last = self.first[rows, block], self.last[rows, block]
        at = torch.minimum(first.unsqueeze(1) + torch.arange(int((last - first).max()) + 1), last.unsqueeze(1))
        kept = self.kept if len(rows) == len(self.block) else self.kept.rows(rows.to(xt.device))
        return read_at(self.policy, xt, t, attend, sites, kept, at.to(xt.device))
