"""The start of a diffusion model from an autoregressive one: the same weights without the causal mask.

(DiffuLLaMA: Scaling Diffusion Language Models via Adaptation from Autoregressive Models, arXiv 2410.17891; Dream 7B,
arXiv 2508.15487.) It denoises badly until it has been trained on text, with `PretrainTrainer` or `sepo pretrain`.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.process import Absorbing
from sepo.models.families import as_denoiser
from sepo.models.language_model import both_ways, never_drawn

MASK = "<|mask|>"


def convert(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, shifted: bool = True) -> Denoiser:
    """Looks both ways from now on. A tokenizer without a mask token gets one, and the network a row for it if needed.

    shifted: the output at a site speaks of the next one, as it did.

    Raises:
        ValueError: the network is no ...ForCausalLM.
    """
    name = type(network).__name__
    if "ForCausalLM" not in name and "LMHeadModel" not in name:
        raise ValueError(f"{name} is no causal language model (...ForCausalLM): there is no causal mask to take away.")
    mask = masked(tokenizer)
    if mask >= network.config.vocab_size:
        network.resize_token_embeddings(mask + 1)
    network.config.mask_token_id = mask
    network.config.shifted_logits = shifted
    network.name_or_path = ""  # no folder holds this network: adapters take it along
    banned = never_drawn(network.config, mask, tokenizer)
    _require_sight(both_ways(network), mask)
    return as_denoiser(network, Absorbing(network.config.vocab_size, mask), banned=banned)


def masked(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the tokenizer's mask, which it gets if it has none: the first id behind its others."""
    if tokenizer.mask_token_id is None:
        tokenizer.add_special_tokens({"mask_token": MASK})
    mask: Any = tokenizer.mask_token_id
    return mask


@torch.no_grad()
def _require_sight(network: PreTrainedModel, mask: int) -> None:
    """
    Raises:
        ValueError: what stands at the end of a sequence does not reach its start.
    """
    seen = torch.full((2, 3), mask, device=network.device)
    seen[1, 2] = 0 if mask else 1
    with evaluating(network):
        first, second = network(input_ids=seen, use_cache=False).logits[:, 0]
    if torch.equal(first, second):
        raise ValueError(
            f"{type(network).__name__} still looks back only: its causal mask is not one that config.is_causal "
            "takes away (recurrent networks have none to take). Choose an attention model such as Llama, Qwen or GPT-2."
        )
