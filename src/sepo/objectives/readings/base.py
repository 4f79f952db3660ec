"""What a reading is: a choice of views, and how a policy is read there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.diffusion.views import Reading, Views, read
from sepo.ops import Chance
from sepo.typing import Float, Int


class Where(ABC):
    """Where log-probabilities are read."""

    reads_rollout: ClassVar[bool] = False
    """Whether the rollout's own log-probabilities are the old policy's reading of these views."""
    of_steps: ClassVar[bool] = False
    """Whether the sites that a view rates are those that the path decided together, in one step or segment."""

    @property
    def partial(self) -> bool:
        """Whether some states stand for all of a path: sums over them are unbiased, products of such sums are not."""
        return False

    @abstractmethod
    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views: ...

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        """log_prob at the views; whole: the law over the vocabulary too."""
        return read(policy, views, whole)


def masked_path(rollout: Rollout, process: Process) -> tuple[MaskedPath, Absorbing]:
    if not isinstance(rollout, MaskedPath) or not isinstance(process, Absorbing):
        raise ValueError(
            f"This reading needs a path of the absorbing process on which every site is filled once, but this is a "
            f"{type(rollout).__name__} of the process {type(process).__name__}; choose reading='transitions'."
        )
    return rollout, process


def require_absorbing(process: Process) -> Absorbing:
    if not isinstance(process, Absorbing):
        raise ValueError(
            f"This reading masks sites, which needs the absorbing process, but the model's is "
            f"{type(process).__name__}; choose reading='transitions' or 'fresh_noise'."
        )
    return process


def choose_states(
    rollout: Rollout, states: int | None, chance: Chance
) -> tuple[Int[Tensor, "batch view"], Float[Tensor, "batch view"]]:
    """Steps [batch view] in which something happened, and the share [batch view] of the path's sum each stands for.

    Of n such steps, one is drawn in each of K strata of n / K; a step that stands in two strata is drawn as often as
    it should be on average. Rows with fewer than K steps read each once; their other views have share 0.
    """
    active = rollout.active()
    n = active.sum(1, keepdim=True)
    k = n if states is None else n.clamp_max(states)
    stratum = torch.arange(int(k.max()), device=n.device)
    within = 0.5 if states is None else chance.uniform(states)[:, : len(stratum)]
    position = (stratum + within) * n.double() / k
    steps = (~active).to(torch.int8).argsort(dim=1, stable=True).gather(1, position.long().clamp(max=n - 1))
    return steps, torch.where(stratum < k, (n / k).float(), 0.0)


def check_states(states: int | None, endless: bool = False) -> None:
    """endless: there is no such thing as all states.

    Raises:
        ValueError: the number cannot be read.
    """
    if states is None and endless:
        raise ValueError(
            "states=None: fresh noise has no end, so that all of it cannot be read; give a number, such as 4."
        )
    if states is not None and states < 1:
        raise ValueError(f"states={states}: at least 1 state of each sequence must be read; None reads all of a path.")
