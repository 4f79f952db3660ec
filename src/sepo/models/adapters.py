"""PEFT adapters: a small folder that belongs to a base checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sepo.diffusion.denoiser import Denoiser
from sepo.models.family import innermost
from sepo.models.weights import ADAPTER_CONFIG, adapter_shapes, compare, read_json

QUERIES_AND_VALUES = (
    *(("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("query_proj", "value_proj"), ("q", "v")),
    *(("Wqkv",), ("qkv",), ("qkv_proj",), ("c_attn",), ("query_key_value",)),
)
"""What transformers calls the linear layers that make queries and values, apart or in one."""
EVERY_LAYER = "all-linear"
"""PEFT's name for all linear layers but the output."""


def usual_layers(network: nn.Module, named: tuple[str, ...] | str = ()) -> list[str] | str | None:
    """The layers that an adapter goes to where nobody says: PEFT's `target_modules`.

    named: by the family of the network. None: PEFT knows them. Where neither does, the queries and values of the
    attention, by what layers the network has; where it has none of these, all linear layers.
    """
    if named:
        return named if isinstance(named, str) else list(named)
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    inner = innermost(network)
    if inner.config.model_type in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        return None
    present = {name.rpartition(".")[2] for name, each in inner.named_modules() if isinstance(each, nn.Linear)}
    return next((list(names) for names in QUERIES_AND_VALUES if present.issuperset(names)), EVERY_LAYER)


def adapter_around(network: nn.Module) -> Any | None:
    """The PeftModel that `network` is or wraps; None without adapters. PEFT is not imported for the answer."""
    peft = sys.modules.get("peft")
    if peft is None:
        return None
    return next((module for module in network.modules() if isinstance(module, peft.PeftModel)), None)


def merged(denoiser: Denoiser) -> Denoiser:
    """The same model without adapters: what they add is added to the weights. Without adapters, as it is."""
    adapted = adapter_around(denoiser.network)
    if adapted is None:
        return denoiser
    network = adapted.merge_and_unload()
    network.name_or_path = ""
    return denoiser.on(network)


def base_of(folder: Path) -> str:
    """The base checkpoint that an adapter folder names.

    Raises:
        ValueError: it names none.
    """
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{folder / ADAPTER_CONFIG} names no base_model_name_or_path: write there the folder or hub id of the "
            "model that the adapter was trained on."
        )
    return base


def base_weights(adapted: nn.Module) -> dict[str, Tensor]:
    """The weights of the network under the adapters, under the names that it had before."""
    network = innermost(adapted)
    with torch.device("meta"):
        names = set(type(network)(network.config).state_dict())
    plain = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in network.state_dict().items()
    }
    return {name: tensor for name, tensor in plain.items() if name in names}


def attach(network: PreTrainedModel, folder: Path) -> nn.Module:
    """`network` with the adapters in `folder`, ready to be trained further.

    Raises:
        ValueError: PEFT is not installed, or the adapter does not fit the network.
    """
    try:
        from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise ValueError(
            f"{folder} holds PEFT adapters, which need the package peft: pip install peft (extra `peft`)."
        ) from error
    found = adapter_shapes(folder)
    try:
        adapted = PeftModel.from_pretrained(
            network, str(folder), config=PeftConfig.from_pretrained(str(folder)), is_trainable=True
        )
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"The adapter in {folder} does not fit {type(network).__name__} ({error}); load it on the base it was "
            "trained on."
        ) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(adapted).items()}
    compare(folder, found, wanted, f"the adapter on {type(network).__name__}")
    return adapted
