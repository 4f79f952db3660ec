"""The family of masked language models: what transformers opens with AutoModelForMaskedLM (BERT, RoBERTa, ESM, ...).

A masked language model is the denoiser of an absorbing process that never hears the time: its logits at a mask are
those of p(x0_i | x_t) (Structured Denoising Diffusion Models in Discrete State-Spaces, arXiv 2107.03006, appendix A.3).
"""

from __future__ import annotations

import sys

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import EsmConfig, PretrainedConfig
from transformers.utils.generic import ModelOutput

from sepo.models.family import Family, innermost
from sepo.ops import rows
from sepo.typing import Sites, Time, Tokens


def call(
    network: nn.Module,
    xt: Tokens,
    sigma: Time,
    attend: Sites | None = None,
    sites: Int[Tensor, "batch k"] | None = None,
) -> Float[Tensor, "batch sites vocab"]:
    """Logits [batch length vocab], or [batch k vocab] at `sites`; `attend` is the attention mask, sigma is not used.

    Raises:
        ValueError: ESM's token dropout would divide by zero.
    """
    _refuse_masks_alone(innermost(network).config, xt, attend)
    attention_mask = None if attend is None else attend.long()
    if sites is None:
        return network(input_ids=xt, attention_mask=attention_mask).logits
    gather = _Gather(sites)
    handle = innermost(network).base_model.register_forward_hook(gather)
    try:
        logits = network(input_ids=xt, attention_mask=attention_mask).logits
    finally:
        handle.remove()
    return logits if gather.done else rows(logits, sites)


class _Gather:
    """A hook that keeps the hidden states at `sites` alone on their way from the stock encoder to the stock head."""

    def __init__(self, sites: Int[Tensor, "batch k"]) -> None:
        self.sites, self.done = sites, False

    def __call__(self, encoder: nn.Module, inputs: tuple, output: object) -> object:
        if isinstance(output, ModelOutput) and "last_hidden_state" in output:
            output["last_hidden_state"] = rows(output["last_hidden_state"], self.sites)
            self.done = True
        return output


def _refuse_masks_alone(config: PretrainedConfig, xt: Tokens, attend: Sites | None) -> None:
    """ESM zeroes its masks and scales the rest by 1 / (1 - share of masks), which is 0 / 0 where there is no rest."""
    if not isinstance(config, EsmConfig) or not config.token_dropout:
        return
    telling = xt != config.mask_token_id
    mute = ~(telling if attend is None else telling & attend).any(-1)
    if mute.any():
        raise ValueError(
            f"Sequence row {int(mute.nonzero()[0])} holds nothing but masks, which this network cannot read "
            "(token_dropout): give the tokens that frame a sequence, such as <cls> and <eos>, in the prompt."
        )


def _lengths(config: PretrainedConfig) -> range:
    return range(1, config.to_dict().get("max_position_embeddings", sys.maxsize - 1) + 1)


FAMILY = Family(
    call=call,
    lengths=_lengths,
    length=lambda config: None,
    time_free=lambda config: True,
    padding=True,
    lora=(),
)
