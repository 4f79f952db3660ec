"""The denoiser: a lens through which a network's numbers become posteriors and concrete scores.

It owns no weights: `network` stays the Hugging Face, PEFT or DDP module it was, `call` says how its family is run,
`meaning` what the numbers mean. `policy.on(other)` looks at another network, such as the reference, through the same
lens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sepo.diffusion.meaning import Meaning, Posterior
from sepo.diffusion.process import Absorbing, Process
from sepo.ops import rows
from sepo.typing import LogProbs, Sites, Time, Tokens

Call = Callable[..., Float[Tensor, "batch sites vocab"]]
"""call(network, xt [batch length], sigma [batch], attend [batch length] | None, sites [batch k] | None) -> logits."""

CachedCall = Callable[..., Any]
"""cached_call(network, xt, sigma, attend, sites, kept, at) -> logits, and keys and values of all sites, which the next
call may be given as `kept`: then the sites `at` [batch k] alone are computed (`sepo.diffusion.cached`)."""


@dataclass
class Meter:
    """Counts network evaluations: one is one sequence through the network once.

    sites: that were computed in them: all of a sequence, less those whose keys and values were in a cache.
    """

    evaluations: int = 0
    with_gradient: int = 0
    sites: int = 0

    def count(self, sequences: int, sites: int) -> None:
        self.evaluations += sequences
        self.sites += sites
        if torch.is_grad_enabled():
            self.with_gradient += sequences


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A network, the process it inverts, and how its numbers are read.

    banned: ids that are never drawn (the mask of an absorbing process is ruled out by itself); time_free: the network
    ignores sigma, so that a row which did not change needs no new evaluation; length: of a blank canvas; frame: the
    tokens that stand before and behind its free sites, such as <cls> and <eos> of a protein model; cached_call: how the
    family is run with a cache of keys and values, None: it is not.
    """

    network: nn.Module
    process: Process
    call: Call
    meaning: Meaning = Posterior()  # noqa: RUF009 (frozen)
    banned: tuple[int, ...] = ()
    time_free: bool = True
    length: int | None = None
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    meter: Meter = field(default_factory=Meter)
    cached_call: CachedCall | None = None

    def __post_init__(self) -> None:
        outside = [token for token in self.banned if not 0 <= token < self.process.size]
        if outside:
            raise ValueError(f"banned={outside}: these ids are outside the process's {self.process.size}; drop them.")

    def on(self, network: nn.Module) -> Denoiser:
        """The same lens on another network; evaluations count together."""
        return replace(self, network=network)

    def parts(self) -> dict[str, Any]:
        """What a denoiser is made of, for a kind of denoiser that reads it in another way."""
        return {each.name: getattr(self, each.name) for each in fields(Denoiser)}

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def logits(
        self, xt: Tokens, t: Time, attend: Sites | None = None, sites: Int[Tensor, "batch k"] | None = None
    ) -> Float[Tensor, "batch sites vocab"]:
        """Logits [batch length vocab], or [batch k vocab] at `sites`; at least float32, impossible ids at -inf."""
        said = self._said(xt, t, attend, sites)
        logits = at_least_single(said)
        ruled_out = [*self.banned, *([self.process.mask] if isinstance(self.process, Absorbing) else [])]
        if not ruled_out:
            return logits
        ids = torch.tensor(ruled_out, device=logits.device)
        if logits is said:  # the network's own, which it may keep
            return logits.index_fill(-1, ids, -torch.inf)
        return logits.index_fill_(-1, ids, -torch.inf)

    def raw_logits(
        self, xt: Tokens, t: Time, attend: Sites | None = None, sites: Int[Tensor, "batch k"] | None = None
    ) -> Float[Tensor, "batch sites vocab"]:
        """What the network says, with nothing ruled out; at least float32."""
        return at_least_single(self._said(xt, t, attend, sites))

    def _said(
        self, xt: Tokens, t: Time, attend: Sites | None, sites: Int[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch sites vocab"]:
        """What the network says, in its own precision."""
        self.meter.count(len(xt), xt.numel())
        logits = self.call(self.network, xt, self.process.schedule.sigma(t), attend, sites)
        if logits.shape[-1] != self.process.size:
            raise ValueError(
                f"The network returned {logits.shape[-1]} logits per site but the process has {self.process.size} "
                "token ids; give the process the size of the network's output."
            )
        return logits

    def log_posterior(
        self, xt: Tokens, t: Time, attend: Sites | None = None, sites: Int[Tensor, "batch k"] | None = None
    ) -> Float[Tensor, "batch sites vocab"]:
        """log p(x0_i = v | x_t), [batch length vocab], normalised over v."""
        logits = self.logits(xt, t, attend, sites)
        return self.meaning.log_posterior(logits, xt if sites is None else rows(xt, sites), t, self.process)

    def log_score(self, xt: Tokens, t: Time, attend: Sites | None = None) -> LogProbs:
        """log s(x_t, t)_y at every site and token, [batch length vocab]; 0 at y = x_t."""
        return self.meaning.log_score(self.logits(xt, t, attend), xt, t, self.process)


def at_least_single(logits: Float[Tensor, "*sites vocab"]) -> Float[Tensor, "*sites vocab"]:
    """The same tensor where it is float32 or more, else a copy that is."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Dropout off within; after it every module is in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
