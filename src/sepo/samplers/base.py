"""What a sampler is: a generator of moves; and how its moves become a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.process import Absorbing
from sepo.diffusion.rollout import MaskedPath, Rollout, StatePath
from sepo.ops import Chance, draw, pick
from sepo.record import Record
from sepo.typing import Float, Int, LogProbs, Sites, Time, Tokens

Steps = Int[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Move(Record):
    """x: the tokens after the move; t: when the network was read before it; log_prob: of the tokens that were drawn.

    The first move of a sampler is its start: t = 1 and nothing has appeared.
    """

    x: Tokens
    t: Time
    log_prob: Float[Tensor, "batch length"]


@runtime_checkable
class Sampler(Protocol):
    """A frozen bundle of options that is called."""

    @property
    def revisits(self) -> bool:
        """Whether a site may change after it was filled, so that only all the states tell the path."""
        ...

    @property
    def exact_density(self) -> bool:
        """Whether the log-probabilities of the draws sum to the log-density of the path, up to what no token changes.

        Else ratios and divergences of paths made of them are wrong, and the sampler serves evaluation only.
        """
        ...

    def __call__(self, policy: Denoiser, canvas: Canvas, chance: Chance) -> Iterator[Move]: ...


@runtime_checkable
class KernelSampler(Sampler, Protocol):
    """A sampler on a time grid whose steps move every site on its own, given all sites before."""

    @property
    def steps(self) -> int: ...

    def kernel(self, policy: Denoiser, xt: Tokens, step: Steps, attend: Sites | None = None) -> LogProbs:
        """The law of each free site after step `step` of each row, given all sites before: probabilities.

        One evaluation per row.
        """
        ...


@runtime_checkable
class OrderedSampler(Sampler, Protocol):
    """A sampler that fills each mask once, and whose states say which masks come next: from left to right, or by
    confidence. Of others any masked site is as likely as any other, as the absorbing process has it."""

    @property
    def ordered(self) -> bool: ...


@runtime_checkable
class ApproximateSampler(Sampler, Protocol):
    """A sampler whose laws are near the policy's, as with a cache; `exact` draws from these themselves.

    A policy can be trained on its paths if it is read again wherever their log-probabilities are asked for.
    """

    @property
    def exact(self) -> Sampler: ...


def transitions_log_prob(
    sampler: KernelSampler, policy: Denoiser, path: StatePath
) -> Float[Tensor, "batch steps length"]:
    """log p(state after step | state before) per step and site, 0 where given: `path.log_prob` of another policy.

    One evaluation per step and row.
    """
    log_prob = []
    for index in range(path.steps):
        step = torch.full((len(path.states),), index, device=path.states.device)
        law = sampler.kernel(policy, path.states[:, index], step, path.canvas.attend)
        log_prob.append(pick(law, path.states[:, index + 1]).log().masked_fill(~path.canvas.free, 0.0))
    return torch.stack(log_prob, dim=1)


def has_density(sampler: Sampler, approximate: bool = False) -> bool:
    """Whether the log-probabilities that it records are the density of its path; approximate: or would be with exact
    laws."""
    return (sampler.exact if approximate and isinstance(sampler, ApproximateSampler) else sampler).exact_density


def require_density(sampler: Sampler, approximate: bool = False) -> Sampler:
    """The sampler, fit for training.

    approximate: a sampler that would be with exact laws is let through.

    Raises:
        ValueError: the log-probabilities that it records are not the density of its path.
    """
    if not has_density(sampler, approximate):
        raise ValueError(
            f"sampler={sampler}: the log-probabilities of its draws are not the density of its path, so that all "
            "ratios and KL would silently be wrong. Train with another one, such as first_hitting, or confidence with "
            "rule='entropy', 'margin' or 'max_prob', temperature=1, top_p=1, rule_temperature=0 and cache=None (a "
            "cache alone is let through by approximate_rollouts=True), or by an algorithm that reads no density, such "
            "as elite_replay; use this one for evaluation only, by `sepo sample`."
        )
    return sampler


def start(policy: Denoiser, canvas: Canvas, chance: Chance) -> Move:
    x = canvas.start(policy.process, chance)
    return Move(x, torch.ones(len(x), device=x.device), torch.zeros(x.shape, device=x.device))


@torch.no_grad()
def roll(sampler: Sampler, policy: Denoiser, canvas: Canvas, chance: Chance) -> Rollout:
    """Run a sampler to its end. Dropout is off meanwhile.

    Raises:
        ValueError: the canvas holds a token that the network does not know, or nothing to fill; the network's numbers
            are not finite.
    """
    _check(policy, canvas)
    with evaluating(policy.network):
        moves = sampler(policy, canvas, chance)
        return (
            _masked_path(moves, canvas, policy.process, isinstance(sampler, OrderedSampler) and sampler.ordered)
            if isinstance(policy.process, Absorbing) and not sampler.revisits
            else _states(moves, canvas)
        )


def _masked_path(moves: Iterator[Move], canvas: Canvas, process: Absorbing, ordered: bool) -> MaskedPath:
    first = next(moves)
    x, times, order, log_prob = first.x, [], torch.full_like(first.x, -1), first.log_prob
    for step, move in enumerate(moves):
        order = torch.where((x == process.mask) & (move.x != process.mask), step, order)
        log_prob = log_prob + move.log_prob
        times.append(move.t)
        x = move.x
    _check_drawn(log_prob)
    follows = torch.ones(len(x), dtype=torch.bool, device=x.device) if ordered else None
    return MaskedPath(canvas, x, order, torch.stack(times, dim=1), log_prob, follows)


def _states(moves: Iterator[Move], canvas: Canvas) -> StatePath:
    visited = list(moves)
    _check_drawn(torch.stack([move.log_prob.sum(1) for move in visited], dim=1))
    read_at = [move.t for move in visited[1:]]
    times = torch.stack([*read_at, torch.zeros_like(visited[0].t)], dim=1)
    log_prob = torch.stack([move.log_prob for move in visited[1:]], dim=1)
    return StatePath(canvas, torch.stack([move.x for move in visited], dim=1), times, log_prob)


def _check(policy: Denoiser, canvas: Canvas) -> None:
    if not canvas.free.any(dim=1).all():
        row = int((~canvas.free.any(dim=1)).nonzero()[0])
        raise ValueError(
            f"Row {row} of the canvas has no free site, so there is nothing to sample; leave such prompts out."
        )
    given = canvas.tokens.masked_fill(canvas.free, 0)
    if int(given.min()) < 0 or int(given.max()) >= policy.process.size:
        raise ValueError(
            f"The canvas holds tokens {int(given.min())} to {int(given.max())}, but the model has ids 0 to "
            f"{policy.process.size - 1}; check that the tokenizer belongs to the model."
        )
    if isinstance(policy.process, Absorbing) and (given == policy.process.mask).logical_and(~canvas.free).any():
        raise ValueError(f"The canvas gives the mask id {policy.process.mask} as a token; mark that site free instead.")


def _check_drawn(log_prob: Tensor) -> None:
    broken = ~log_prob.isfinite().all(dim=1)
    if broken.any():
        raise ValueError(
            f"The network gave no finite probabilities in {int(broken.sum())} of {len(broken)} sequences, the first in "
            f"row {int(broken.nonzero()[0])}; look for NaN in its weights or logits."
        )


def resample(
    sampler: KernelSampler,
    policy: Denoiser,
    canvas: Canvas,
    chance: Chance,
    times: Float[Tensor, " steps"] | None = None,
) -> Iterator[Move]:
    """Draws every free site from the kernel, step by step. times: of the steps; None: an even grid from 1."""
    if times is None:
        times = 1 - torch.arange(sampler.steps, device=canvas.tokens.device) / sampler.steps
    move = start(policy, canvas, chance)
    yield move
    for index in range(sampler.steps):
        step = torch.full_like(move.x[:, 0], index)
        law = sampler.kernel(policy, move.x, step, canvas.attend)
        x = torch.where(canvas.free, draw(law, chance.uniform(move.x.shape[1])), move.x)
        log_prob = pick(law, x).log().masked_fill(~canvas.free, 0.0)
        move = Move(x, times[step].to(move.t.dtype), log_prob)
        yield move
