r"""Elite replay: keep the best, learn them again. No gradient of the reward, no advantage, no old policy.

    minimise  - (bound on log p(x)),   x drawn by rank among the best distinct sequences so far

The cross-entropy method (Rubinstein, Methodology and Computing in Applied Probability 1, 1999) with a memory, on the
pretraining loss; the hill climb of language models of molecules (GuacaMol, arXiv 1811.09621). The trainer keeps the
elites and adds the term (`sepo.training.elites.Replay`, `replay_kwargs`); the objective here has none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.advantages import Advantage, none, unit
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Loss, Objective
from sepo.objectives.credit import Credit
from sepo.ops import Chance


@dataclass(frozen=True)
class Idle(Objective):
    """No views, no evaluations, no loss."""

    @property
    def reads_rollout(self) -> bool:
        return True

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        canvas, x0 = rollout.canvas, rollout.x0
        ids = x0.unsqueeze(1)[:, :0]
        numbers = torch.zeros(ids.shape, device=x0.device)
        return Views(ids, numbers[..., 0], ids, numbers, numbers, canvas.free, canvas.attend, ids[..., 0])

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        if whole:
            raise ValueError(
                "Elite replay reads no states, so it has no path KL or entropy: leave path_kl_coef and entropy_coef 0."
            )
        return Reading(torch.zeros(views.weight.shape, device=views.weight.device))

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        return Loss(new.log_prob.sum().requires_grad_(torch.is_grad_enabled()), {})


@dataclass(frozen=True)
class EliteReplay(Algorithm):
    """Its options are those of `replay_kwargs`."""

    paper = Paper("GuacaMol: Benchmarking Models for De Novo Molecular Design", "1811.09621")
    replays = True
    any_sampler = True

    @property
    def return_beta(self) -> float:
        """Elites are chosen by the reward alone."""
        return 0.0

    def objective(self) -> Objective:
        return Idle()

    def advantage(self) -> Advantage:
        return Advantage(none, unit)
