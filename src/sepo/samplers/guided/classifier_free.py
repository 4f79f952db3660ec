r"""Classifier-free guidance: logits with the condition, c, are moved away from those without it, u.

    log p(v)  =  (1 + w) c_v - w u_v  +  constant

with the constant that makes it a law over the tokens again, before the step (Large Language Diffusion Models, arXiv
2502.09992; D-CFG of Simple Guidance Mechanisms for Discrete Diffusion Models, arXiv 2412.10193). The released DNA
baseline (DRAKES, arXiv 2410.13643) leaves it out, so that masks are filled too fast, as arXiv 2507.08965 analyses. Of
a score that is not normalised the rate is the conditional one's, at any w.

Without the condition is: the same network with what the canvas gives masked, as LLaDA does, or another denoiser, such
as the model before fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sepo.diffusion.alike import require_alike
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.meaning import Score
from sepo.diffusion.process import Absorbing
from sepo.ops import Chance
from sepo.samplers.base import KernelSampler, Move, Sampler, resample
from sepo.typing import Bool, Float, Int, Sites, Time, Tokens


@dataclass(frozen=True, eq=False)
class ClassifierFreeDenoiser(Denoiser):
    """A denoiser that is guided wherever it is read; each reading costs two evaluations. Made by `classifier_free`.

    given: the sites that are masked for u, of all rows [1 length] or of each; None where `unconditional` is given.
    """

    weight: float = 0.0
    unconditional: Denoiser | None = None
    given: Bool[Tensor, "rows length"] | None = None

    def logits(
        self, xt: Tokens, t: Time, attend: Sites | None = None, sites: Int[Tensor, "batch k"] | None = None
    ) -> Float[Tensor, "batch sites vocab"]:
        with_it = super().logits(xt, t, attend, sites)
        if self.unconditional is None:
            without = super().logits(self._without_given(xt), t, attend, sites)
        else:
            without = replace(self.unconditional, meter=self.meter).logits(xt, t, attend, sites)
        ruled_out = (with_it == -torch.inf) | (without == -torch.inf)
        away = with_it.masked_fill(ruled_out, 0.0) - without.masked_fill(ruled_out, 0.0)
        guided = (with_it + self.weight * away).masked_fill(ruled_out, -torch.inf)
        return guided.log_softmax(-1) + with_it.logsumexp(-1, keepdim=True)

    def _without_given(self, xt: Tokens) -> Tokens:
        assert isinstance(self.process, Absorbing) and self.given is not None
        given = self.given[:, : xt.shape[1]]
        if len(given) not in (1, len(xt)):
            raise ValueError(
                f"The rows give different sites, and the sampler reads {len(xt)} of {len(given)} alone, so that it is "
                "not known which: use a sampler that reads all rows at every step, such as TauLeaping, or give the "
                "rows of a batch the same free sites."
            )
        return xt.masked_fill(given, self.process.mask)


def classifier_free(
    policy: Denoiser, weight: float, unconditional: Denoiser | None = None, canvas: Canvas | None = None
) -> ClassifierFreeDenoiser:
    """The guided denoiser, for any sampler. canvas: whose given sites are the condition, without `unconditional`.

    Raises:
        ValueError: nothing is given; the process has no mask to put there, or rates of change instead of laws.
    """
    process, given = policy.process, None
    if isinstance(policy.meaning, Score) and not isinstance(process, Absorbing):
        raise ValueError(f"Guidance combines laws of clean tokens, and scores of {type(process).__name__} are none.")
    if unconditional is None:
        if not isinstance(process, Absorbing) or canvas is None:
            raise ValueError(
                f"{type(process).__name__} has no mask to put in place of what is given, or there is no canvas: pass "
                "unconditional, a denoiser without the condition."
            )
        given = ~canvas.free if canvas.attend is None else ~canvas.free & canvas.attend
        if not given.any():
            raise ValueError("The canvas gives nothing to be guided by: give a prompt, or unconditional, a denoiser.")
        given = given[:1] if bool((given == given[:1]).all()) else given
    else:
        require_alike(policy, unconditional, "unconditional")
    uncached = replace(policy, cached_call=None)  # the two evaluations of a reading would share one cache
    return ClassifierFreeDenoiser(**uncached.parts(), weight=weight, unconditional=unconditional, given=given)


@dataclass(frozen=True)
class ClassifierFree:
    """inner: any sampler; weight: w, 0 is the condition alone; unconditional: None: the policy with the prompt masked.

    Around a fine-tuned policy, with the model p_ref that it was fine-tuned from as `unconditional`, the weight is the
    price of fine-tuning, chosen anew while sampling. The optimum of E[R] - beta KL is p* ~ p_ref exp(R / beta), hence

        p*^(1 + w) p_ref^(-w)  ~  p_ref exp((1 + w) R / beta)

    the optimum at the price beta / (1 + w): w > 0 extrapolates to smaller prices, -1 < w < 0 goes back towards p_ref
    (-0.5 doubles the price); w = -1 is p_ref. That holds of laws of whole sequences, and of one site given all others;
    sites are drawn here while others are masked, of which it holds where reward and law have independent sites, and
    else nearly. It presumes a policy near its optimum. For autoregressive models this is decoding-time realignment
    (DeRa, arXiv 2402.02992, lambda = 1 + w), as approximate token by token as this is site by site; ExPO (arXiv
    2404.16792) extrapolates the weights of the networks instead.

    Moves hold the log-probabilities of the guided law, which is not the policy's.
    """

    inner: Sampler
    weight: float
    unconditional: Denoiser | None = None
    exact_density = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"weight={self.weight}: must be finite; 0 is the conditional model.")

    @property
    def revisits(self) -> bool:
        return self.inner.revisits

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]:
        guided = classifier_free(policy, self.weight, self.unconditional, canvas)
        other = policy if self.unconditional is None else self.unconditional
        with evaluating(other.network):
            if guided.given is not None and len(guided.given) > 1 and self._fills_by_kernel():
                yield from resample(self.inner, guided, canvas, chance)  # type: ignore[arg-type]
            else:
                yield from self.inner(guided, canvas, chance)

    def _fills_by_kernel(self) -> bool:
        """Then its kernel reads all rows, which its own way of filling masks may not."""
        return isinstance(self.inner, KernelSampler) and not self.inner.revisits
