r"""The update of the released SEPO code (github.com/ozekri/SEPO, commit 4a4a40f), written from its description.

For finished sequences x, every site i and id v (the mask among them), with P(z | y) = 0.999 dt softmax(logits(y)), its
mask column set to 0, and z_m drawn from P position by position:

    log s(x)_iv   log softmax of the raw logits at x
    pi_iv         harmonic mean over m of P(z_m | x[i := v]) at POSITION m (not i), fresh draws for old and new
    r             (pi / pi_old) (s_old / s), without gradient
    minimise      min( mean A sum pi r log s,  mean A sum pi clip(r) log s ), ONE minimum of two numbers

It differs from the paper's estimator in all of this, and is here to be measured. Of z_m only the site that counts is
drawn. `dead_forwards` also makes the B L d M evaluations at z that the released code makes and whose result it clamps
to a constant, so that an update costs what it costs there: 2 B (1 + L d (1 + M)) evaluations, B of them with gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives.advantages import Advantage, group, mean
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Loss, Objective
from sepo.objectives.credit import Credit
from sepo.objectives.readings import RawLogits
from sepo.objectives.readings.base import require_absorbing
from sepo.ops import Chance, draw, pick
from sepo.typing import Sites, Tokens

AT_ONCE = 1024
"""Sequences in a forward over neighbours."""


@dataclass(frozen=True)
class Released(Objective):
    """draws: M; steps: of the sampler, dt = 1 / steps (which leaves r alone, and scales the loss)."""

    draws: int = 2
    epsilon: float = 0.2
    steps: int = 128
    dead_forwards: bool = True
    whole = True
    old_whole = True

    def __post_init__(self) -> None:
        if self.draws < 1 or self.steps < 1:
            raise ValueError(
                f"draws={self.draws}, steps={self.steps}: both must be at least 1; the released code has 2 and 128."
            )

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        views = RawLogits()(rollout, require_absorbing(process), chance)
        return replace(views, draws=chance.uniform(1, views.xt.shape[-1], 2 * process.size * self.draws))

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        """The policy that is being updated is read with gradient, the old one without: each has draws of its own."""
        reading, old = RawLogits().read(policy, views, whole=True), not torch.is_grad_enabled()
        with torch.no_grad():
            return replace(reading, q=self._pi(policy, views, 0 if old else 1))

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        assert new.log_law is not None and old.log_law is not None and new.q is not None and old.q is not None
        ratio = new.q / old.q * (old.log_law - new.log_law.detach()).exp()
        terms = views.free[:, None, :, None] * new.q * new.log_law
        advantage = credit.sequence_advantage.to(ratio.dtype)

        def weighted(r: Tensor) -> Tensor:
            return (advantage * (terms * r).sum((1, 2, 3))).mean()

        clipped = ratio.clamp(1 - self.epsilon, 1 + self.epsilon)
        value = torch.minimum(weighted(ratio), weighted(clipped))
        return Loss(value, {"ratio": ratio.mean()})

    def _pi(self, policy: Denoiser, views: Views, draws: int) -> Tensor:
        """[batch 1 length vocab]; draws: which of the two sets of stored uniform numbers is used."""
        assert isinstance(policy.process, Absorbing) and views.draws is not None
        (x, _, attend), process = views.flat(), policy.process
        batch, length = x.shape
        sites, ids = torch.arange(length, device=x.device), torch.arange(process.size, device=x.device)
        y = x[:, None, None, :].expand(batch, length, process.size, length).clone()
        y[:, sites, :, sites] = ids
        uniform = views.draws[:, 0].view(batch, length, 2, process.size, self.draws)[:, :, draws]
        row = torch.arange(batch, device=x.device).repeat_interleave(length * process.size)
        parts = zip(
            y.flatten(0, 2).split(AT_ONCE), uniform.flatten(0, 2).split(AT_ONCE), row.split(AT_ONCE), strict=True
        )
        found = [self._mean_of(policy, part, u, None if attend is None else attend[rows]) for part, u, rows in parts]
        return torch.cat(found).view(batch, 1, length, process.size)

    def _mean_of(self, policy: Denoiser, y: Tokens, uniform: Tensor, attend: Sites | None) -> Tensor:
        """The harmonic mean for each neighbour."""
        assert isinstance(policy.process, Absorbing)
        t = torch.zeros(len(y), device=y.device)
        law = policy.raw_logits(y, t, attend).softmax(-1) * 0.999 / self.steps
        read = law[:, : self.draws].index_fill(-1, torch.tensor([policy.process.mask], device=y.device), 0.0)
        z = draw(read, uniform[:, : read.shape[1]])
        if self.dead_forwards:
            for _ in range(self.draws):
                policy.raw_logits(y, t, attend)
        return 1 / (1 / pick(read, z)).mean(1)


@dataclass(frozen=True)
class SepoReleased(Algorithm):
    """draws: M; steps: of the sampler; dead_forwards: make the evaluations that have no effect, too."""

    paper = Paper("Fine-Tuning Discrete Diffusion Models with Policy Gradient Methods", "2502.01384")
    draws: int = 2
    epsilon: float = 0.2
    steps: int = 128
    dead_forwards: bool = True

    def objective(self) -> Objective:
        return Released(self.draws, self.epsilon, self.steps, self.dead_forwards)

    def advantage(self) -> Advantage:
        return Advantage(mean, group)
