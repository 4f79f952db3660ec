"""LLaDA is a Llama, Dream and DiffuCoder a Qwen2, each without its causal mask: stock classes, other names.

LLaDA (arXiv 2502.09992): output i speaks of token i. Dream (arXiv 2508.15487), DiffuCoder (arXiv 2506.20639): of token
i + 1.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models.families import as_denoiser
from sepo.models.language_model import both_ways, never_drawn
from sepo.models.published.layout import Described, Layout, needed, paired, same
from sepo.models.weights import Shapes

BLOCK = "model.transformer.blocks.{}."
LAYER = "model.layers.{}."
LLADA_NAMES = {
    "model.transformer.wte.weight": "model.embed_tokens.weight",
    "model.transformer.ln_f.weight": "model.norm.weight",
    "model.transformer.ff_out.weight": "lm_head.weight",
    BLOCK + "q_proj.weight": LAYER + "self_attn.q_proj.weight",
    BLOCK + "k_proj.weight": LAYER + "self_attn.k_proj.weight",
    BLOCK + "v_proj.weight": LAYER + "self_attn.v_proj.weight",
    BLOCK + "attn_out.weight": LAYER + "self_attn.o_proj.weight",
    BLOCK + "ff_proj.weight": LAYER + "mlp.gate_proj.weight",
    BLOCK + "up_proj.weight": LAYER + "mlp.up_proj.weight",
    BLOCK + "ff_out.weight": LAYER + "mlp.down_proj.weight",
    BLOCK + "attn_norm.weight": LAYER + "input_layernorm.weight",
    BLOCK + "ff_norm.weight": LAYER + "post_attention_layernorm.weight",
}

A_LLAMA = {
    **dict.fromkeys(("include_bias", "include_qkv_bias", "weight_tying", "attention_layer_norm", "alibi"), False),
    **dict.fromkeys(("scale_logits", "input_emb_norm"), False),
    **{"activation_type": "silu", "layer_norm_type": "rms", "block_type": "llama", "rope": True},
}
"""Entries of LLaDA's configuration, as they must be."""


def _llama(description: Described, shapes: Shapes) -> PretrainedConfig:
    heads = needed(description, "n_heads", "llada")
    for name, usual in A_LLAMA.items():
        if description.get(name, usual) != usual:
            raise ValueError(f"{name}={description[name]!r}: LLaDA is a Llama only with {name}={usual!r}.")
    return LlamaConfig(
        vocab_size=shapes["model.transformer.wte.weight"][0],
        hidden_size=needed(description, "d_model", "llada"),
        intermediate_size=shapes[BLOCK.format(0) + "ff_proj.weight"][0],
        num_hidden_layers=needed(description, "n_layers", "llada"),
        num_attention_heads=heads,
        num_key_value_heads=description.get("n_kv_heads") or heads,
        max_position_embeddings=description.get("max_sequence_length") or 4096,
        rope_parameters={"rope_type": "default", "rope_theta": description.get("rope_theta") or 10_000.0},
        rms_norm_eps=description.get("rms_norm_eps") or 1e-5,
        tie_word_embeddings=False,
        **_ids(description),
    )


def _qwen(description: Described, shapes: Shapes) -> PretrainedConfig:
    theirs = ("architectures", "auto_map", "model_type", "use_sliding_window", "sliding_window")
    ours = {name: value for name, value in description.items() if name not in theirs}
    ours |= _ids(description) | {"vocab_size": shapes["model.embed_tokens.weight"][0], "shifted_logits": True}
    return Qwen2Config.from_dict(ours)


def _ids(description: Described) -> dict[str, Any]:
    names = ("mask_token_id", "eos_token_id", "pad_token_id", "bos_token_id")
    return {name: description[name] for name in names if description.get(name) is not None}


def _lens(network: PreTrainedModel, description: Described, tokenizer: PreTrainedTokenizerBase | None) -> Denoiser:
    mask = description.get("mask_token_id")
    if mask is None and tokenizer is not None:
        mask = tokenizer.mask_token_id
    if not isinstance(mask, int):
        raise ValueError("Neither config.json nor the tokenizer names a mask_token_id: add it to config.json.")
    size = network.config.vocab_size
    return as_denoiser(both_ways(network), Absorbing(size, mask), banned=never_drawn(network.config, mask, tokenizer))


def _olmo(config: Any) -> dict[str, Any]:
    return {
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "d_model": config.hidden_size,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "n_layers": config.num_hidden_layers,
        "mlp_hidden_size": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "embedding_size": config.vocab_size,
        "max_sequence_length": config.max_position_embeddings,
        "rope_theta": config.rope_parameters["rope_theta"],
        "rms_norm_eps": config.rms_norm_eps,
        "activation_type": "silu",
        "block_type": "llama",
        "layer_norm_type": "rms",
        "rope": True,
        "include_bias": False,
        "weight_tying": False,
        "mask_token_id": config.mask_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def _dream(config: Any) -> dict[str, Any]:
    described = config.to_dict()
    for name in ("is_causal", "shifted_logits"):
        described.pop(name, None)
    return described | {"model_type": "Dream", "architectures": ["DreamModel"]}


LLADA = Layout(
    "llada",
    lambda description, shapes: "model.transformer.wte.weight" in shapes,
    _llama,
    LlamaForCausalLM,
    paired(LLADA_NAMES),
    _lens,
    _olmo,
)
DREAM = Layout(
    "dream",
    lambda description, shapes: str(description.get("model_type")).lower() in ("dream", "diffucoder"),
    _qwen,
    Qwen2ForCausalLM,
    same(),
    _lens,
    _dream,
)
