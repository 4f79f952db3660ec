"""Small networks whose attention can be cached, of one layer or several, and one that looks back over blocks only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models import as_denoiser
from sepo.models.language_model import both_ways
from sepo.models.networks.dit import DiT, DiTConfig
from sepo.models.networks.positions import Learned, Rotary
from sepo.models.networks.transformer import Transformer, TransformerConfig
from tests.models.toys import LENGTH, MASK, SIZE, shaken

WIDTH: dict[str, int] = {"hidden_size": 16, "num_attention_heads": 2}


def llama(layers: int, size: int = SIZE, **options: Any) -> PreTrainedModel:
    shape = {**WIDTH, "num_hidden_layers": layers, "intermediate_size": 32, "max_position_embeddings": 2 * LENGTH}
    return both_ways(shaken(lambda: LlamaForCausalLM(LlamaConfig(vocab_size=size, **shape, **options))))


def dream(layers: int) -> PreTrainedModel:
    """Shifted logits, and two heads of queries for each of keys."""
    shape = {**WIDTH, "num_hidden_layers": layers, "intermediate_size": 32, "max_position_embeddings": 2 * LENGTH}
    config = Qwen2Config(vocab_size=SIZE, num_key_value_heads=1, **shape)
    config.shifted_logits = True
    return both_ways(shaken(lambda: Qwen2ForCausalLM(config)))


def learned(layers: int) -> PreTrainedModel:
    config = TransformerConfig(SIZE, Learned(LENGTH), num_hidden_layers=layers, **WIDTH)
    return shaken(lambda: Transformer(config))


def rotary(layers: int) -> PreTrainedModel:
    config = TransformerConfig(SIZE, Rotary(100.0), num_hidden_layers=layers, **WIDTH)
    return shaken(lambda: Transformer(config))


def dit(layers: int) -> PreTrainedModel:
    config = DiTConfig(SIZE, LENGTH, cond_dim=8, num_hidden_layers=layers, dropout=0.0, **WIDTH)
    return shaken(lambda: DiT(config))


NETWORKS: dict[str, Callable[[int], PreTrainedModel]] = {
    "llama": llama,
    "dream": dream,
    "learned": learned,
    "rotary": rotary,
    "dit": dit,
}


def policy_of(name: str, layers: int) -> Denoiser:
    return as_denoiser(NETWORKS[name](layers), Absorbing(SIZE, mask=MASK))


class LooksBack(nn.Module):
    """A decoder in which each site attends to the blocks up to its own: the first `prompt` sites, then `width` each."""

    def __init__(self, network: PreTrainedModel, prompt: int, width: int, length: int) -> None:
        super().__init__()
        self.network, self.prompt, self.width, self.length = network, prompt, width, length

    def forward(self, position_ids: torch.Tensor, attention_mask: Any = None, **given: Any) -> Any:
        ahead = (torch.arange(self.length) - self.prompt).div(self.width, rounding_mode="floor").clamp_min(-1)
        allowed = ahead <= ahead[position_ids].unsqueeze(-1)
        return self.network(position_ids=position_ids, attention_mask=allowed.unsqueeze(1), **given)


def looking_back(prompt: int, width: int, layers: int = 3) -> Denoiser:
    network = LooksBack(llama(layers), prompt, width, LENGTH)
    return as_denoiser(network, Absorbing(SIZE, mask=MASK))
