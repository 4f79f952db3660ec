"""One tiny network per family, with weights that are far from their start, and the process that it belongs to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models import as_denoiser
from sepo.models.language_model import both_ways
from sepo.models.networks.dit import DiT, DiTConfig
from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.models.networks.grid import GridConfig, GridNetwork
from sepo.models.networks.positions import Learned
from sepo.models.networks.transformer import Transformer, TransformerConfig

SIZE, MASK, LENGTH = 7, 6, 12


def shaken(build: Callable[[], PreTrainedModel], seed: int = 0) -> PreTrainedModel:
    """The same network each time, with noise on every weight so that none is zero or one by design; for evaluation."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = build()
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    return network.eval()


def grid() -> PreTrainedModel:
    return shaken(lambda: GridNetwork(GridConfig(SIZE, height=3, width=4, hidden_size=16, num_hidden_layers=2)))


def transformer() -> PreTrainedModel:
    config = TransformerConfig(SIZE, Learned(LENGTH), hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    return shaken(lambda: Transformer(config))


def dit() -> PreTrainedModel:
    config = DiTConfig(
        SIZE, LENGTH, hidden_size=16, cond_dim=8, num_hidden_layers=2, num_attention_heads=2, dropout=0.0
    )
    return shaken(lambda: DiT(config))


def dna_cnn() -> PreTrainedModel:
    return shaken(lambda: DnaCnn(DnaCnnConfig(SIZE, LENGTH, hidden_size=8, stacks=1)))


def masked_lm() -> PreTrainedModel:
    config = BertConfig(
        vocab_size=SIZE,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return shaken(lambda: BertForMaskedLM(config))


def language_model() -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )
    return both_ways(shaken(lambda: LlamaForCausalLM(config)))


NETWORKS: dict[str, Callable[[], PreTrainedModel]] = {
    "grid": grid,
    "transformer": transformer,
    "dit": dit,
    "dna_cnn": dna_cnn,
    "masked_lm": masked_lm,
    "language_model": language_model,
}
"""Of the families that fill masks; tests/models/test_diffusion_gemma.py is about the one that has a prefix."""


def denoiser(family: str) -> Denoiser:
    return as_denoiser(NETWORKS[family](), Absorbing(SIZE, mask=MASK))


def half_masked(batch: int = 3, length: int = LENGTH) -> Tensor:
    """Sequences with about every other site masked, and one that is all masks."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(MASK, (batch, length), generator=generator)
    tokens[torch.rand(tokens.shape, generator=generator) < 0.5] = MASK
    tokens[-1] = MASK
    return tokens
