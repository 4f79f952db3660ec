"""Reading the steps of a sampler with a kernel: log p(x_s | x_t) = sum_i log k_i, drawn and rated by one law.

The exact policy gradient of that sampler, for any process, and for samplers that visit a site more than once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout, StatePath
from sepo.diffusion.views import Reading, Views
from sepo.objectives.readings.base import Where, check_states, choose_states
from sepo.ops import Chance, pick
from sepo.ops import rows as at
from sepo.typing import LogProbs

Kernel = Callable[..., LogProbs]
"""kernel(policy, xt [batch length], step [batch], attend) -> probabilities of each site after the step."""


@dataclass(frozen=True)
class Transitions(Where):
    """`states` of the steps of a path, stratified; kernel: that of the sampler that drew it."""

    kernel: Kernel
    states: int | None = 16
    reads_rollout = True
    of_steps = True

    def __post_init__(self) -> None:
        check_states(self.states)

    @property
    def partial(self) -> bool:
        return self.states is not None

    def __call__(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        if not isinstance(rollout, StatePath):
            raise ValueError(
                "reading='transitions' rates all states of a path, but this sampler fills each mask once and keeps "
                "its order only; choose reading='next_site'."
            )
        steps, share = choose_states(rollout, self.states, chance)
        free = rollout.canvas.free.unsqueeze(1)
        weight = share.unsqueeze(-1) * free
        xt, target = at(rollout.states, steps), at(rollout.states, steps + 1)
        t = rollout.times.gather(1, steps)
        return Views(xt, t, target, weight, weight, rollout.canvas.free, rollout.canvas.attend, steps)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        xt, _, attend = views.flat()
        assert views.step is not None
        law = self.kernel(policy, xt, views.step.flatten(), attend)
        counted = views.weight.flatten(0, 1) != 0
        probability = torch.where(counted, pick(law, views.target.flatten(0, 1)), 1.0)
        log_prob = probability.log().view(views.xt.shape)
        if not whole:
            return Reading(log_prob)
        log_law = torch.where(law > 0, law, 1.0).log().masked_fill(law <= 0, -torch.inf)
        return Reading(log_prob, log_law.view(*views.xt.shape, -1))
