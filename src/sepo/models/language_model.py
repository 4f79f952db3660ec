"""The family of decoders that look both ways: LLaDA is a Llama, Dream and DiffuCoder a Qwen2, without the causal mask.

Any ...ForCausalLM of transformers whose configuration says `is_causal: false`. With `shifted_logits: true` the output
at a site speaks of the next one, as in the autoregressive model that it came from (Dream 7B, arXiv 2508.15487).
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.cached import KeyValues
from sepo.models.family import Family, innermost
from sepo.models.gathering import logits_at
from sepo.models.networks.key_values import CachedLayers
from sepo.ops import rows
from sepo.typing import Sites, Time, Tokens

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>")
"""Tokens that end a text or a turn, where a tokenizer has them."""


def call(
    network: nn.Module,
    xt: Tokens,
    sigma: Time,
    attend: Sites | None = None,
    sites: Int[Tensor, "batch k"] | None = None,
) -> Float[Tensor, "batch sites vocab"]:
    """Logits [batch length vocab], or [batch k vocab] at `sites`; sigma is not used.

    Positions count the tokens that `attend` allows, so that padding, on either side, changes nothing.
    """
    place, seen = _positions(xt, attend), None if attend is None else attend.long()

    def run():
        return network(input_ids=xt, attention_mask=seen, position_ids=place, use_cache=False)

    if not _shifted(network):
        return logits_at(network, run, sites)
    source = _before(xt, attend)
    if sites is None:
        return rows(logits_at(network, run, None), source)
    return logits_at(network, run, source.gather(1, sites))


def cached_call(
    network: nn.Module,
    xt: Tokens,
    sigma: Time,
    attend: Sites | None,
    sites: Int[Tensor, "batch n"],
    kept: KeyValues | None = None,
    at: Int[Tensor, "batch k"] | None = None,
) -> tuple[Float[Tensor, "batch n vocab"], KeyValues]:
    """Logits at `sites`, and keys and values. With shifted logits the site before those `at` is computed as well.

    Raises:
        ValueError: some layers do not attend to all sites.
    """
    config = innermost(network).config.get_text_config()
    _require_attention_to_all(config, attend)
    source = _before(xt, attend) if _shifted(network) else None
    if at is not None and source is not None:
        at = torch.cat((source.gather(1, at[:, :1]), at), dim=1)
    cache, place = CachedLayers(xt, kept, at), _positions(xt, attend)
    seen = torch.ones_like(xt) if attend is None else attend.long()

    def run():
        tokens, positions = cache.computed(xt), cache.computed(place)
        return network(
            input_ids=tokens, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True
        )

    logits = logits_at(network, run, cache.columns(sites if source is None else source.gather(1, sites)))
    return logits, cache.found(config.num_hidden_layers)


def both_ways(network: PreTrainedModel) -> PreTrainedModel:
    """The network without its causal mask; its configuration says so, and is saved with it."""
    network.config.is_causal = False
    for module in network.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False  # type: ignore[assignment]  (attention without a mask asks its module)
    return network


def never_drawn(config: Any, mask: int, tokenizer: PreTrainedTokenizerBase | None) -> tuple[int, ...]:
    """Ids that are no content: special tokens but those that end a text or a turn, and rows beyond the tokenizer's.

    Without a tokenizer nothing is known of either.
    """
    if tokenizer is None:
        return ()
    known = tokenizer.get_vocab()
    ends: set[Any] = {*_all(tokenizer.eos_token_id), *(known[word] for word in TURN_ENDS if word in known)}
    ends |= {*_all(config.eos_token_id)}
    idle = (set(tokenizer.all_special_ids) - ends) | set(range(len(tokenizer), config.vocab_size))
    return tuple(sorted(token for token in idle - {mask} if token < config.vocab_size))


def _all(tokens: Any) -> list[int]:
    """One id, several or none."""
    if isinstance(tokens, int):
        return [tokens]
    return list(tokens or ())


def _shifted(network: nn.Module) -> bool:
    return getattr(innermost(network).config, "shifted_logits", False)


def _require_attention_to_all(config: Any, attend: Sites | None) -> None:
    said = config.to_dict()
    types = set(said.get("layer_types") or ["sliding_attention" if said.get("sliding_window") else "full_attention"])
    if types != {"full_attention"}:
        raise ValueError(
            f"The network has layers of {', '.join(sorted(types))}, but a cache of keys and values needs layers that "
            "attend to all sites: set cache=None."
        )
    if attend is not None and "flash" in str(config._attn_implementation):
        raise ValueError(
            f"attn_implementation={config._attn_implementation!r} takes padding from the wrong sites when a cache is "
            "used: load the model with attn_implementation='sdpa', or give prompts of one length."
        )


def _positions(xt: Tokens, attend: Sites | None) -> Int[Tensor, "batch length"]:
    if attend is None:
        return torch.arange(xt.shape[1], device=xt.device).expand_as(xt)
    return (attend.long().cumsum(1) - 1).clamp_min(0)


def _before(xt: Tokens, attend: Sites | None) -> Int[Tensor, "batch length"]:
    """The site whose output speaks of each site: the one before it; the first token speaks of itself."""
    own = torch.arange(xt.shape[1], device=xt.device).expand_as(xt)
    before = (own - 1).clamp_min(0)
    return before if attend is None else torch.where(attend.gather(1, before), before, own)


def _lengths(config: PretrainedConfig) -> range:
    return range(1, config.to_dict().get("max_position_embeddings", sys.maxsize - 1) + 1)


FAMILY = Family(
    call=call,
    lengths=_lengths,
    length=lambda config: None,
    time_free=lambda config: True,
    padding=True,
    lora=(),
    stock=AutoModelForCausalLM,
    ready=both_ways,
    cached_call=cached_call,
)
