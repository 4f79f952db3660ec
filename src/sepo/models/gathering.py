"""The vocabulary head at some sites alone: hidden states are gathered between a stock body and its stock head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from sepo.models.family import innermost
from sepo.ops import rows


def logits_at(
    network: nn.Module, run: Callable[[], Any], sites: Int[Tensor, "batch k"] | None
) -> Float[Tensor, "batch sites vocab"]:
    """The logits of `run()`, which calls the network; at `sites`, if given, without a row of logits for the others.

    A vocabulary of 126,464 tokens in float32 is 0.5 MB per site.
    """
    if sites is None:
        return run().logits
    gather = _Gather(sites)
    handle = innermost(network).base_model.register_forward_hook(gather)
    try:
        logits = run().logits
    finally:
        handle.remove()
    return logits if gather.done else rows(logits, sites)


class _Gather:
    """A forward hook that keeps the hidden states at `sites`."""

    def __init__(self, sites: Int[Tensor, "batch k"]) -> None:
        self.sites, self.done = sites, False

    def __call__(self, body: nn.Module, inputs: tuple, output: object) -> object:
        if isinstance(output, ModelOutput) and "last_hidden_state" in output:
            output["last_hidden_state"] = rows(output["last_hidden_state"], self.sites)
            self.done = True
        return output
