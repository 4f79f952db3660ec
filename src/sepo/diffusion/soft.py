"""Soft tokens: a network reads a mixture of ids at each site, with gradient, where it otherwise reads ids.

Any network that names its input embeddings (`get_input_embeddings`, as those of transformers do) is served by a hook on
that module: mixture @ E in place of E[ids], or the mixture in place of the one-hot input of a convolution (channels
first, as torch has it, or last if the module says `channels_last = True`). Where a mixture is one-hot the values are
those of its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sepo.diffusion.denoiser import Denoiser
from sepo.typing import LogProbs, Sites, Time, Tokens

Mixture = LogProbs
"""[batch length vocab]: shares of ids, which sum to 1 at each site."""


@runtime_checkable
class Embeds(Protocol):
    def get_input_embeddings(self) -> nn.Module: ...


@contextmanager
def soft_tokens(network: nn.Module, mixture: Mixture) -> Iterator[Tokens]:
    """Within, `network` run on the ids that are yielded, the likeliest of each site, reads the mixture instead.

    What a network decides by ids and not by embeddings (ESM's token dropout) goes by the likeliest.

    Raises:
        ValueError: the network names no input embeddings, or is run on ids of another shape.
    """
    module = input_embeddings(network)
    if isinstance(module, nn.Conv1d):
        last = getattr(module, "channels_last", False)
        handle = module.register_forward_pre_hook(_in_place_of_one_hot(mixture, last))
    else:
        handle = module.register_forward_hook(_in_place_of_rows(mixture))
    try:
        yield mixture.argmax(-1)
    finally:
        handle.remove()


def soft_log_posterior(policy: Denoiser, mixture: Mixture, t: Time, attend: Sites | None = None) -> LogProbs:
    """log p(x0_i = v | mixture) at every site, the impossible at -inf; nothing is carried over. One evaluation each."""
    with soft_tokens(policy.network, mixture) as ids:
        return policy.logits(ids, t, attend).log_softmax(-1)


def input_embeddings(network: nn.Module) -> nn.Module:
    """That of the outermost module that has any: DDP and other wrappers have none."""
    for module in network.modules():
        if isinstance(module, Embeds):
            return module.get_input_embeddings()
    raise ValueError(
        f"{type(network).__name__} has no get_input_embeddings(), so it can read ids only: add that method, returning "
        "the module that embeds the ids."
    )


def straight_through(mixture: Mixture) -> Mixture:
    """One-hot at the likeliest id, with the gradient of the mixture."""
    hard = nn.functional.one_hot(mixture.argmax(-1), mixture.shape[-1]).to(mixture.dtype)
    return hard + (mixture - mixture.detach())


def _in_place_of_rows(mixture: Mixture) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        _require_shape(tuple(inputs[0].shape), mixture)
        every = torch.arange(mixture.shape[-1], device=mixture.device).unsqueeze(0)
        table = module.forward(every)[0]
        return mixture.to(table.dtype) @ table

    return hook


def _in_place_of_one_hot(mixture: Mixture, channels_last: bool) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        letters = inputs[0] if channels_last else inputs[0].transpose(1, 2)
        _require_shape(tuple(letters.shape[:2]), mixture)
        soft = mixture.to(letters.dtype) * letters.sum(2, keepdim=True)
        return (soft if channels_last else soft.transpose(1, 2), *inputs[1:])

    return hook


def _require_shape(found: tuple[int, ...], mixture: Mixture) -> None:
    if found != tuple(mixture.shape[:2]):
        raise ValueError(
            f"The network embeds ids of shape {found} but the mixture is for {tuple(mixture.shape[:2])}: run it on the "
            "ids that soft_tokens yields."
        )
