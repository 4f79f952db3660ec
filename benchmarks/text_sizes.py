"""The networks of text models with random weights, at full size and small; their operations, and the cards' peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import Posterior, Score
from sepo.diffusion.process import Absorbing
from sepo.models.families import as_denoiser
from sepo.models.language_model import both_ways
from sepo.models.networks.dit import DiT, DiTConfig

PEAKS = {"H100": 989e12, "H200": 989e12}
"""FLOP/s in dense bf16, by a part of the card's name."""
SLOWER = ("PCIe", "NVL", "MIG")
"""Cards of these names have another peak."""


@dataclass(frozen=True)
class Size:
    """A network and what is asked of it. mlp: of a Llama, 0: a DiT; few: steps of the sampler that takes few; states:
    of each path, read with gradient; micro: paths per micro-batch.
    """

    hidden: int
    layers: int
    heads: int
    vocab: int
    mask: int
    mlp: int = 0
    prompt: int = 64
    completion: int = 256
    few: int = 32
    states: int = 16
    group: int = 8
    micro: int = 2


SIZES = {
    "170M": Size(768, 12, 12, 50_258, 50_257),
    "424M": Size(1024, 24, 16, 50_258, 50_257),
    "8B": Size(4096, 32, 32, 126_464, 126_336, mlp=12_288),
}
_SHORT: dict[str, int] = {"prompt": 16, "completion": 24, "few": 6, "states": 4}
TOYS = {
    "170M": Size(64, 2, 2, 1024, 1023, **_SHORT),
    "424M": Size(96, 3, 3, 1024, 1023, **_SHORT),
    "8B": Size(128, 3, 4, 2048, 2000, mlp=384, **_SHORT),
}


def network_of(size: Size, device: str) -> PreTrainedModel:
    """A Llama in bf16, or float32 on a CPU, where bf16 is slow. On the device "meta" it costs nothing."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        if not size.mlp:
            shape = {"num_hidden_layers": size.layers, "num_attention_heads": size.heads}
            return DiT(DiTConfig(size.vocab, hidden_size=size.hidden, time_conditioning=True, **shape))
        config = LlamaConfig(
            vocab_size=size.vocab,
            hidden_size=size.hidden,
            intermediate_size=size.mlp,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            max_position_embeddings=4096,
            rope_parameters={"rope_type": "default", "rope_theta": 5e5},
            tie_word_embeddings=False,
        )
        return both_ways(AutoModelForCausalLM.from_config(config, dtype=dtype))


def policy_of(size: Size, device: str) -> Denoiser:
    torch.manual_seed(0)
    network = network_of(size, device)
    for weight in network.parameters():
        if not weight.any():  # else the blocks of a new DiT do nothing
            nn.init.normal_(weight, std=0.02)
    return as_denoiser(network, Absorbing(size.vocab, size.mask), Posterior() if size.mlp else Score())


def adapters_of(size: Size) -> Any:
    """LoRA on the attention of a Llama; None for a DiT, all of whose weights are trained."""
    if not size.mlp:
        return None
    from peft import LoraConfig

    return LoraConfig(r=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])


class Weights(NamedTuple):
    """Numbers of parameters: of the network, and of its token table and head among them."""

    every: int
    table: int
    head: int

    @staticmethod
    def of(network: PreTrainedModel) -> Weights:
        parts: list[Any] = [network, network.get_input_embeddings(), network.get_output_embeddings()]
        return Weights(*(sum(weight.numel() for weight in part.parameters()) for part in parts))


class Kind(NamedTuple):
    """A call of the network: whether as the reference, with gradient, and at how many sites of how many tokens."""

    reference: bool
    gradient: bool
    rows: int
    length: int
    sites: int

    def operations(self, weights: Weights) -> int:
        """2 x parameters x tokens, and 3 times that with the backward."""
        return (6 if self.gradient else 2) * self.rows * self.length * weights.every

    def done(self, weights: Weights) -> int:
        """The same without what is not done: products with the token table, and the head where it is not read."""
        body = self.length * (weights.every - weights.table - weights.head)
        return (6 if self.gradient else 2) * self.rows * (body + self.sites * weights.head)


def peak_of(name: str) -> float | None:
    """FLOP/s of a card in dense bf16; None if it is not known."""
    if any(word in name for word in SLOWER):
        return None
    return next((peak for part, peak in PEAKS.items() if part in name), None)
