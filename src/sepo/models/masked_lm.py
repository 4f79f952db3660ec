"""The family of masked language models: what transformers opens with AutoModelForMaskedLM (BERT, RoBERTa, ESM, ...).

A masked language model is the denoiser of an absorbing process that never hears the time: its logits at a mask are
those of p(x0_i | x_t) (Structured Denoising Diffusion Models in Discrete State-Spaces, arXiv 2107.03006, appendix A.3).
"""

from __future__ import annotations

import sys
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, EsmConfig, PretrainedConfig, PreTrainedTokenizerBase

from sepo.models.family import Family, innermost
from sepo.models.gathering import logits_at
from sepo.typing import Sites, Time, Tokens

ALPHABET, CLS, EOS, RESIDUES = 33, 0, 2, range(4, 24)
"""Of ESM-2 and DPLM: the number of tokens, those around a sequence, and the amino acids (LAGVSERTIDPKQNFYMHWC)."""


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
    return logits_at(network, lambda: network(input_ids=xt, attention_mask=attention_mask), sites)


def never_drawn(config: Any, mask: int, tokenizer: PreTrainedTokenizerBase | None) -> tuple[int, ...]:
    """Special tokens, the frame of a sequence and not its content; of ESM's alphabet all but the amino acids."""
    if isinstance(config, EsmConfig) and config.vocab_size == ALPHABET:
        return residues_alone(config.vocab_size, mask)
    special: set[Any] = set() if tokenizer is None else set(tokenizer.all_special_ids)
    return tuple(sorted(token for token in special - {mask} if token < config.vocab_size))


def frame_of(config: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """<cls> and <eos> around a protein, which ESM cannot be without; nothing around other texts."""
    protein = isinstance(config, EsmConfig) and config.vocab_size == ALPHABET
    return ((CLS,), (EOS,)) if protein else ((), ())


def residues_alone(size: int, mask: int) -> tuple[int, ...]:
    """The ids of ESM's alphabet that are no amino acid: special tokens, gaps, ambiguous and rare residues."""
    return tuple(token for token in range(size) if token not in RESIDUES and token != mask)


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
    stock=AutoModelForMaskedLM,
)
