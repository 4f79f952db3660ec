r"""Rewards with a gradient for the worlds of the laboratory: the multilinear extension of a table.

    R(p) = sum_x R(x) prod_i p_i(x_i)        the mean reward of sequences whose sites are drawn from p_1, p_2, ... alone

It is the table at one-hot sites, linear in each site, and no other function is both. At a sequence its slope in p_i(v)
is the reward of the sequence with site i set to v: who follows it looks up L (V - 1) neighbours, which no network
evaluation counts.
"""

from __future__ import annotations

import torch

from sepo.diffusion.soft import Mixture
from sepo.evaluation.worlds import Law, World
from sepo.objectives.drakes import Reward
from sepo.typing import PerSequence


def multilinear(world: World, reward: Law) -> Reward:
    """reward: of each of `world.sequences`. The mask, the last id, counts for nothing."""
    table = reward.reshape(world.letters, -1)

    def soft(tokens: Mixture) -> PerSequence:
        """Site by site: what is left to be summed is [batch, letters to the power of the sites that are left]."""
        first, *others = tokens[..., : world.letters].unbind(1)
        left = first @ table.to(first.dtype)
        for share in others:
            left = torch.einsum("bv,bvr->br", share, left.unflatten(1, (world.letters, -1)))
        return left.squeeze(1)

    return soft
