"""The family of DiffusionGemma: an encoder reads what is finished, a decoder denoises one block of tokens behind it.

`DiffusionGemmaForBlockDiffusion` of transformers. The last `config.canvas_length` tokens of a sequence are the canvas,
on which the decoder sees both ways; all before them is the prefix, a prompt and blocks that are done, of which the
causal encoder makes the keys and values that the decoder looks back on. The process is uniform, the network is not told
the time, and the logits are those of p(x0_i | x_t), a plain denoiser (arXiv 2605.22765).

Left out is self-conditioning: the published sampler feeds the logits of one step to the decoder in the next. The state
of its chain is then not the tokens alone, and the density of a path no product of kernels. Here every step is read as
that sampler reads its first, without such logits; the difference to its samples was not measured.

Gradients pass from the decoder into the encoder through its keys and values. Checkpointing takes the decoder's layers
only, and has to be the kind that is not reentrant (the default of transformers): the other one fails.

Adapters of PEFT go to `ADAPTED`, a pattern: names alone would reach into the vision tower, whose layers PEFT refuses.
Those of encoder and decoder are apart, though the weights below them are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.generic import ModelOutput

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Uniform
from sepo.models.family import Family, innermost
from sepo.models.gathering import logits_at
from sepo.typing import Sites, Time, Tokens

ADAPTED = r".*\.(language_model|decoder)\.layers\.\d+\.self_attn\.(q|k|v|o)_proj"
"""`target_modules` of a LoraConfig: attention of encoder and decoder."""

FRAME = (
    *("pad_token", "bos_token", "unk_token", "mask_token"),
    *("image_token", "boi_token", "eoi_token", "audio_token", "boa_token", "eoa_token", "video_token"),
)
"""Special tokens of a tokenizer that no answer holds. Others, such as those around a turn or a call, may be drawn."""


def call(
    network: nn.Module,
    xt: Tokens,
    sigma: Time,
    attend: Sites | None = None,
    sites: Int[Tensor, "batch k"] | None = None,
) -> Float[Tensor, "batch sites vocab"]:
    """Logits [batch length vocab], or [batch k vocab] at `sites`; sigma is not used.

    The canvas of a row are its last `config.canvas_length` tokens that `attend` allows, which are to be its free sites:
    where fewer are free, set `network.config.canvas_length` to their number. All other sites, prompt and padding, are
    never free, and their logits are 0: the decoder says nothing of them. Padding changes nothing, wherever it is.

    Raises:
        ValueError: a row has no token before its canvas.
    """
    canvas = _canvas_length(innermost(network), xt, attend)
    order = _padding_first(xt, attend)
    tokens, seen = xt.gather(1, order), None if attend is None else attend.gather(1, order).long()
    place = torch.arange(xt.shape[1], device=xt.device).expand_as(xt) if seen is None else seen.cumsum(1) - 1
    place, prefix = place.clamp_min(0), xt.shape[1] - canvas

    def run() -> Any:
        """One evaluation, with keys and values of its own."""
        return network(
            input_ids=tokens[:, :prefix],
            attention_mask=None if seen is None else seen[:, :prefix],
            position_ids=place[:, :prefix],
            decoder_input_ids=tokens[:, prefix:],
            decoder_attention_mask=seen,
            decoder_position_ids=place[:, prefix:],
        )

    handle = innermost(network).base_model.register_forward_hook(_spread(order[:, prefix:], xt.shape[1]))
    try:
        return logits_at(network, run, sites)
    finally:
        handle.remove()


def lens(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> Denoiser:
    """The lens on a network as it was published: posteriors under uniform noise over all of its ids.

    banned: placeholders of images and the like, the frame of a text, and ids without a token; the end of a text can be
    drawn. Noise is drawn of all ids, these too. What is ruled out is ruled out of the posterior: a state on the way may
    hold such an id as noise, but a sampler's last step draws from the posterior alone, so that x0 never does.
    """
    size = innermost(network).config.get_text_config().vocab_size
    return Denoiser(network, Uniform(size), call, banned=_never_drawn(innermost(network).config, tokenizer))


def _never_drawn(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> tuple[int, ...]:
    """The ids that the configuration names, the tokenizer's of the same kinds, and rows beyond it; no end of a text."""
    text = config.get_text_config()
    named = [*config.to_dict().items(), *text.to_dict().items()]
    named = [(name, value) for name, value in named if name.endswith(("_token_id", "_token_index"))]
    ends = [value for name, value in named if name.startswith("eos_")]
    kept: set[Any] = {each for value in ends for each in (value if isinstance(value, list) else [value])}
    found: set[Any] = {value for _, value in named if isinstance(value, int)}
    if tokenizer is not None:
        special: dict[str, Any] = dict(tokenizer.special_tokens_map)
        ids: Any = tokenizer.convert_tokens_to_ids([str(special[kind]) for kind in FRAME if kind in special])
        found |= {*ids, *range(len(tokenizer), text.vocab_size)}
        kept.add(tokenizer.eos_token_id)
    return tuple(sorted(token for token in found - kept if 0 <= token < text.vocab_size))


def _canvas_length(network: PreTrainedModel, xt: Tokens, attend: Sites | None) -> int:
    """
    Raises:
        ValueError: a row is all canvas.
    """
    canvas: int = network.config.canvas_length
    least = xt.shape[1] if attend is None else int(attend.sum(1).min())
    if least <= canvas:
        raise ValueError(
            f"A row has {least} tokens without padding, but the last canvas_length={canvas} are the canvas and at "
            "least one is to stand before it, such as <bos>: give a prompt, or set network.config.canvas_length to the "
            "number of free sites."
        )
    return canvas


def _padding_first(xt: Tokens, attend: Sites | None) -> Int[Tensor, "batch length"]:
    """The sites of each row, those without a token before the others."""
    if attend is None:
        return torch.arange(xt.shape[1], device=xt.device).expand_as(xt)
    return attend.to(torch.int8).argsort(dim=1, stable=True)


def _spread(place: Int[Tensor, "batch canvas"], length: int) -> Callable[[nn.Module, tuple, object], object]:
    """A forward hook that puts the hidden states of the canvas at their sites and zeros, of which the head makes the
    logits 0, at all others."""

    def hook(body: nn.Module, inputs: tuple, output: object) -> object:
        if isinstance(output, ModelOutput):
            hidden = output["last_hidden_state"]
            everywhere = hidden.new_zeros(len(hidden), length, hidden.shape[-1])
            output["last_hidden_state"] = everywhere.scatter(1, place.unsqueeze(-1).expand_as(hidden), hidden)
        return output

    return hook


def _lengths(config: PretrainedConfig) -> range:
    return range(config.canvas_length + 1, config.get_text_config().max_position_embeddings + 1)


FAMILY = Family(
    call=call,
    lengths=_lengths,
    length=lambda config: None,
    time_free=lambda config: True,
    padding=True,
    lora=ADAPTED,
    stock=AutoModelForImageTextToText,
)
