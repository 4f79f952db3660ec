"""The reference policy: what the fine-tuned one is kept close to. Frozen, adapters off, following slowly, or apart."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from sepo.diffusion.alike import require_alike
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.models.adapters import adapter_around


@runtime_checkable
class Reference(Protocol):
    @contextmanager
    def policy(self, like: Denoiser) -> Iterator[Denoiser]:
        """The reference through the same lens, in eval mode."""
        ...

    @property
    def network(self) -> nn.Module | None:
        """Weights of its own that a checkpoint must keep; None if it has none, or they never change."""
        ...


@dataclass(frozen=True, eq=False)
class Frozen:
    """A copy of the policy as it was when training began."""

    copied: nn.Module
    network = None

    @staticmethod
    def of(network: nn.Module) -> Frozen:
        return Frozen(_copy(network))

    @contextmanager
    def policy(self, like: Denoiser) -> Iterator[Denoiser]:
        yield like.on(self.copied)


@dataclass(frozen=True, eq=False)
class AdaptersOff:
    """The policy itself with its PEFT adapters switched off: no second copy in memory."""

    network = None

    @contextmanager
    def policy(self, like: Denoiser) -> Iterator[Denoiser]:
        adapted = adapter_around(like.network)
        if adapted is None:
            raise ValueError(
                f"AdaptersOff is a reference for a network with PEFT adapters, and {type(like.network).__name__} has "
                "none; give a peft_config, or Frozen.of(network)."
            )
        with evaluating(like.network), adapted.disable_adapter():
            yield like


@dataclass(frozen=True, eq=False)
class Synced:
    """A copy that moves towards the policy:

    reference <- alpha policy + (1 - alpha) reference, every `steps` steps (TRL's names). With steps=1 that is an
    exponential moving average of decay 1 - alpha, with alpha=1 a copy that is renewed.
    """

    network: nn.Module
    alpha: float
    steps: int

    @staticmethod
    def of(network: nn.Module, alpha: float, steps: int) -> Synced:
        if not 0 < alpha <= 1 or steps < 1:
            raise ValueError(
                f"ref_model_mixup_alpha={alpha}, ref_model_sync_steps={steps}: needs alpha in (0, 1] and at least 1 "
                "step."
            )
        return Synced(_copy(network), alpha, steps)

    @contextmanager
    def policy(self, like: Denoiser) -> Iterator[Denoiser]:
        yield like.on(self.network)

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """To be called after every optimizer step."""
        if step % self.steps:
            return
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs.to(mine.dtype), self.alpha)


@dataclass(frozen=True, eq=False)
class Apart:
    """A model of its own, through its own lens, where the policy does not begin at it: the pretrained model beside a
    policy that begins at a supervised fine-tuning of it, say.
    """

    model: Denoiser
    network = None

    @staticmethod
    def of(model: Denoiser, policy: Denoiser) -> Apart:
        """
        Raises:
            ValueError: they are not of the same tokens and noise, or the reference never draws what the policy may.
        """
        require_alike(policy, model, "the reference")
        never = sorted(set(model.banned) - set(policy.banned))
        if never:
            raise ValueError(
                f"The reference never draws the ids {never[:10]} and the policy may, so that the KL would be infinite: "
                "ban them of both, or take a reference that knows them."
            )
        model.network.requires_grad_(False).eval()
        return Apart(model)

    @contextmanager
    def policy(self, like: Denoiser) -> Iterator[Denoiser]:
        if self.model.device != like.device:
            self.model.network.to(like.device)
        yield replace(self.model, process=like.process, meter=like.meter)


def _copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).requires_grad_(False).eval()
