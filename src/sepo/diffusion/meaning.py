"""What the numbers of a network mean: a posterior, a score, or a posterior that has not seen its own site."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from sepo.diffusion.process import Absorbing, Process
from sepo.typing import LogProbs, Time, Tokens


@runtime_checkable
class Meaning(Protocol):
    """How logits of a family are read."""

    def log_posterior(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs: ...

    def log_score(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs: ...


def normalised(logits: LogProbs, xt: Tokens, process: Process) -> LogProbs:
    """log softmax, with what x_t itself says, and one tensor [batch length vocab] kept for both.

    With a gradient the softmax keeps its result, so that nothing may be written there after it.
    """
    if logits.requires_grad:
        return process.carry_over(logits, xt).log_softmax(-1)
    return process.carry_over(logits.log_softmax(-1), xt, in_place=True)


@dataclass(frozen=True)
class Posterior:
    """Logits of p(x0_i | x_t): MDLM (arXiv 2406.07524), LLaDA, masked language models. -inf marks the impossible."""

    def log_posterior(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        return normalised(logits, xt, process)

    def log_score(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        return process.log_score(self.log_posterior(logits, xt, t, process), xt, t)


@dataclass(frozen=True)
class Score:
    """Logits of log s(x_t, t): SEDD (arXiv 2310.16834).

    With `scale_by_sigma` log expm1(sigma) + log(size - 1) is subtracted. The score need not be normalised; the
    posterior drawn from it is.
    """

    scale_by_sigma: bool = True

    def log_score(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        if self.scale_by_sigma:
            scale = process.schedule.sigma(t).expm1().log() + math.log(process.size - 1)
            logits = logits - scale[:, None, None]
        return logits.scatter(-1, xt.unsqueeze(-1), 0.0)

    def log_posterior(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        if isinstance(process, Absorbing):
            return normalised(logits, xt, process)
        posterior = process.posterior(self.log_score(logits, xt, t, process), xt, t).clamp_min(1e-30)
        return posterior.log().masked_fill(logits == -torch.inf, -torch.inf).log_softmax(-1)


@dataclass(frozen=True)
class LeaveOneOut:
    """Logits of p(x0_i | x_t without site i), for the uniform process (arXiv 2605.22765).

    What x_t itself says is Bayes' rule: log(1 + size alpha / (1 - alpha)) is added at the token that is there. For
    masks it is the posterior, since a masked site says nothing.
    """

    def log_posterior(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        if isinstance(process, Absorbing):
            return Posterior().log_posterior(logits, xt, t, process)
        alpha = process.schedule.alpha(t)
        said = torch.log1p(process.size * alpha / (1 - alpha)).to(logits.dtype)[:, None, None]
        return logits.scatter_add(-1, xt.unsqueeze(-1), said.expand(*xt.shape, 1)).log_softmax(-1)

    def log_score(self, logits: LogProbs, xt: Tokens, t: Time, process: Process) -> LogProbs:
        return process.log_score(self.log_posterior(logits, xt, t, process), xt, t)
