"""DPLM (arXiv 2402.18567) is an ESM-2 under another name of its class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import EsmConfig, EsmForMaskedLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models.families import as_denoiser
from sepo.models.masked_lm import ALPHABET, frame_of, residues_alone
from sepo.models.published.layout import Described, Layout, Names
from sepo.models.weights import Shapes

RECOMPUTED = ("position_ids", "position_embeddings.weight", "inv_freq")
CONTACTS = ("contact_head.regression.weight", "contact_head.regression.bias")
"""Of a head that plays no part in denoising."""


def _config(description: Described, shapes: Shapes) -> PretrainedConfig:
    ours = {name: value for name, value in description.items() if name not in ("architectures", "auto_map")}
    return EsmConfig.from_dict({"token_dropout": True, "mask_token_id": 32, "pad_token_id": 1} | ours)


def _here(name: str) -> str | None:
    return None if name.endswith(RECOMPUTED) else name


def _lens(network: PreTrainedModel, description: Described, tokenizer: PreTrainedTokenizerBase | None) -> Denoiser:
    config: Any = network.config
    process = Absorbing(config.vocab_size, config.mask_token_id)
    banned = residues_alone(config.vocab_size, config.mask_token_id)
    return replace(as_denoiser(network, process, banned=banned), frame=frame_of(config))


DPLM = Layout(
    "dplm",
    lambda description, shapes: (
        ("EsmForDPLM" in (description.get("architectures") or ()) or "dplm_type" in description)
        and description.get("vocab_size", ALPHABET) == ALPHABET
    ),
    _config,
    EsmForMaskedLM,
    Names(_here, lambda name: name),
    _lens,
    lambda config: config.to_dict() | {"architectures": ["EsmForDPLM"]},
    optional=("inv_freq", *CONTACTS),
)
