"""Published sizes without their weights: parameters on the meta device, and every tensor of an index accounted for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from sepo.models import LAYOUTS

BLOCK_SHAPES = {
    "norm1.weight": lambda d, c: (d,),
    "attn_qkv.weight": lambda d, c: (3 * d, d),
    "attn_out.weight": lambda d, c: (d, d),
    "norm2.weight": lambda d, c: (d,),
    "mlp.0.weight": lambda d, c: (4 * d, d),
    "mlp.0.bias": lambda d, c: (4 * d,),
    "mlp.2.weight": lambda d, c: (d, 4 * d),
    "mlp.2.bias": lambda d, c: (d,),
    "adaLN_modulation.weight": lambda d, c: (6 * d, c),
    "adaLN_modulation.bias": lambda d, c: (6 * d,),
}


def ddit(prefix: str, width: int, blocks: int, vocab: int, cond: int = 128) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the files of SEDD, MDLM and UDLM list them."""
    outside = {
        "vocab_embed.embedding": (vocab, width),
        "sigma_map.mlp.0.weight": (cond, 256),
        "sigma_map.mlp.0.bias": (cond,),
        "sigma_map.mlp.2.weight": (cond, cond),
        "sigma_map.mlp.2.bias": (cond,),
        "rotary_emb.inv_freq": (32,),
        "output_layer.norm_final.weight": (width,),
        "output_layer.linear.weight": (vocab, width),
        "output_layer.linear.bias": (vocab,),
        "output_layer.adaLN_modulation.weight": (2 * width, cond),
        "output_layer.adaLN_modulation.bias": (2 * width,),
    }
    inside = {
        f"blocks.{number}.{name}": shape(width, cond)
        for number in range(blocks)
        for name, shape in BLOCK_SHAPES.items()
    }
    return {prefix + name: shape for name, shape in (outside | inside).items()}


def llada(layers: int = 32, width: int = 4096, inner: int = 12288, vocab: int = 126464) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.transformer.wte.weight": (vocab, width),
        "model.transformer.ln_f.weight": (width,),
        "model.transformer.ff_out.weight": (vocab, width),
    }
    for number in range(layers):
        block = f"model.transformer.blocks.{number}."
        shapes |= {f"{block}{name}.weight": (width, width) for name in ("q_proj", "k_proj", "v_proj", "attn_out")}
        shapes |= {f"{block}{name}.weight": (inner, width) for name in ("ff_proj", "up_proj")}
        shapes |= {f"{block}ff_out.weight": (width, inner)}
        shapes |= {f"{block}{name}.weight": (width,) for name in ("attn_norm", "ff_norm")}
    return shapes


def dream(layers: int = 28, width: int = 3584, inner: int = 18944, vocab: int = 152064) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab, width),
        "model.norm.weight": (width,),
        "lm_head.weight": (vocab, width),
    }
    for number in range(layers):
        layer = f"model.layers.{number}."
        for name, out in (("q", width), ("k", 512), ("v", 512)):
            shapes[f"{layer}self_attn.{name}_proj.weight"] = (out, width)
            shapes[f"{layer}self_attn.{name}_proj.bias"] = (out,)
        shapes[f"{layer}self_attn.o_proj.weight"] = (width, width)
        shapes |= {f"{layer}mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes[f"{layer}mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{layer}{name}.weight": (width,) for name in ("input_layernorm", "post_attention_layernorm")}
    return shapes


LLADA = {
    "model_type": "llada",
    "d_model": 4096,
    "n_heads": 32,
    "n_kv_heads": 32,
    "n_layers": 32,
    "max_sequence_length": 4096,
    "rope_theta": 500000.0,
    "mask_token_id": 126336,
}
DREAM = {
    "model_type": "Dream",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "tie_word_embeddings": False,
    "mask_token_id": 151666,
}
DPLM = {
    "architectures": ["EsmForDPLM"],
    "model_type": "esm",
    "vocab_size": 33,
    "hidden_size": 640,
    "num_hidden_layers": 30,
    "num_attention_heads": 20,
    "intermediate_size": 2560,
    "position_embedding_type": "rotary",
    "emb_layer_norm_before": False,
    "max_position_embeddings": 1026,
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, tuple[int, ...]], int, int]] = {
    "louaaron/sedd-small": ("sedd", {}, ddit("", 768, 12, 50258), 131, 169_627_218),
    "louaaron/sedd-medium": ("sedd", {}, ddit("", 1024, 24, 50258), 251, 424_477_010),
    "kuleshov-group/mdlm-owt": ("mdlm", {"model_type": "mdlm"}, ddit("backbone.", 768, 12, 50258), 131, 169_627_218),
    "kuleshov-group/udlm-lm1b": ("udlm", {"model_type": "udlm"}, ddit("backbone.", 768, 12, 30522), 131, 139_292_986),
    "GSAI-ML/LLaDA-8B-Base": ("llada", LLADA, llada(), 291, 8_015_581_184),
    "Dream-org/Dream-v0-Base-7B": ("dream", DREAM, dream(), 339, 7_615_616_512),
}


def on_meta(layout_name: str, description: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> PreTrainedModel:
    layout = LAYOUTS[layout_name]
    with torch.device("meta"):
        return layout.network(layout.config(description, shapes))


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_of_the_file_has_its_place_and_the_network_has_no_other(name: str) -> None:
    layout_name, description, shapes, tensors, parameters = CASES[name]
    assert len(shapes) == tensors
    assert next(each.name for each in LAYOUTS.values() if each.recognises(description, shapes)) == layout_name
    network, names = on_meta(layout_name, description, shapes), LAYOUTS[layout_name].names
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    placed = {names.here(there): shape for there, shape in shapes.items()}
    assert placed == {here: tuple(tensor.shape) for here, tensor in network.state_dict().items()}
    assert all(names.there(str(here)) in shapes for here in placed)


def test_dplm_150m_has_its_148_million_parameters() -> None:
    network = on_meta("dplm", DPLM, {})
    assert sum(weight.numel() for weight in network.parameters()) // 10**6 == 148
