"""What a network says while a sampler with a kernel reads it: the law of the step and the posterior, from one forward.

Guided samplers need both. The kernel reads the network through a lens that passes everything on and keeps the
posterior and the time, so that no state is evaluated twice, whatever the sampler and its grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import Meaning
from sepo.diffusion.process import Absorbing, Process
from sepo.ops import pick
from sepo.record import Record
from sepo.samplers.base import KernelSampler, Steps
from sepo.typing import Float, LogProbs, Sites, Time, Tokens


@dataclass(frozen=True, eq=False)
class Heard(Record):
    """law: of each site after the step, probabilities; log_posterior: log p(x0_i | xt); t: when that was read."""

    law: LogProbs
    log_posterior: LogProbs
    t: Time


@dataclass(frozen=True)
class Overhearing:
    """A meaning that keeps the posteriors and times it is asked for."""

    meaning: Meaning
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def log_posterior(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        found = self.meaning.log_posterior(logits, xt, t, process)
        self.kept.append((found, t))
        return found

    def log_score(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        return self.meaning.log_score(logits, xt, t, process)


def hear(inner: KernelSampler, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None) -> Heard:
    """One evaluation per row.

    Raises:
        ValueError: the network's numbers are not finite, or the kernel does not read every site once.
    """
    meaning = Overhearing(policy.meaning)
    law = inner.kernel(replace(policy, meaning=meaning), xt, step, attend)
    total = law.detach().sum(-1)
    broken = ~(total.isfinite() & (total > 0)).all(1)
    if broken.any():
        raise ValueError(
            f"The network gave no finite probabilities in {int(broken.sum())} of {len(broken)} sequences, the first in "
            f"row {int(broken.nonzero()[0])}; look for NaN in its weights or logits."
        )
    if len(meaning.kept) != 1 or meaning.kept[0][0].shape != law.shape:
        raise ValueError(
            f"{inner} does not read every site once per step, so that what it expects of a state is not known: use a "
            "sampler such as Ancestral or TauLeaping."
        )
    log_posterior, t = meaning.kept[0]
    return Heard(law, log_posterior, t.expand(len(xt)).to(torch.get_default_dtype()))


def require_kernel(inner: KernelSampler, name: str) -> None:
    if not isinstance(inner, KernelSampler):
        raise ValueError(
            f"{name}(inner={inner}): its steps have no law per site; choose a sampler with a kernel, such as Ancestral."
        )


def log_prob_of(
    inner: KernelSampler, process: Process, law: LogProbs, before: Tokens, after: Tokens, free: Sites
) -> Float[Tensor, "batch length"]:
    """Under the inner sampler, per site; of masks that are filled once, of the tokens alone: the policy does not say
    when they appear."""
    chosen = pick(law, after)
    if not isinstance(process, Absorbing) or inner.revisits:
        return chosen.log().masked_fill(~free, 0.0)
    letters = law.index_fill(-1, torch.tensor([process.mask], device=law.device), 0.0).sum(-1)
    return (chosen / letters).log().masked_fill((before == after) | ~free, 0.0)
