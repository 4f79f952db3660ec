"""A task of your own: data, a network, a reward, and metrics that the reward does not see. Here: DNA with a TATA box.

    sepo pretrain --task examples/own_task.py:Promoters --max_steps 300 --output_dir runs/dna_pretrain
    sepo finetune --task examples/own_task.py:Promoters --model runs/dna_pretrain --max_steps 60 --beta 0.05 \\
        --per_device_train_batch_size 64 --learning_rate 1e-3 --output_dir runs/dna
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.sequences import mean_hamming_distance
from sepo.models import as_denoiser
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.tasks import Row, Task

LETTERS = "ACGT"


@dataclass(frozen=True)
class Promoters(Task):
    """length: letters per sequence; number: sequences to learn from; motif: what the reward looks for."""

    length: int = 32
    number: int = 2000
    motif: str = "TATAAA"

    @cached_property
    def data(self) -> np.ndarray:
        """Sequences in which every letter likes to follow the one before it in the alphabet: a Markov chain."""
        rng = np.random.default_rng(0)
        sequences = rng.integers(4, size=(self.number, self.length))
        for place in range(1, self.length):
            follows = rng.random(self.number) < 0.4
            sequences[follows, place] = (sequences[follows, place - 1] + 1) % 4
        return sequences

    def corpus(self) -> Sequence[Row]:
        return [{"tokens": row} for row in self.data[: -self.number // 10].tolist()]

    def heldout(self) -> Sequence[Row]:
        return [{"tokens": row} for row in self.data[-self.number // 10 :].tolist()]

    def denoiser(self) -> Denoiser:
        """A small transformer over the four letters and the mask."""
        network = Transformer(TransformerConfig(vocab_size=5, hidden_size=64, num_hidden_layers=2))
        return as_denoiser(network, Absorbing(5, mask=4), length=self.length)

    def reward(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float]:
        """The longest stretch of the motif found anywhere, as a share of it."""
        return [self.longest("".join(LETTERS[letter] for letter in each)) for each in completions]

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        samples = np.stack(completions)
        return {
            "has_motif": float(np.mean([reward == 1 for reward in self.reward(prompts, completions, [])])),
            "diversity": mean_hamming_distance(torch.from_numpy(samples)) / self.length,
            "chain_kept": float(np.mean((samples[:, 1:] - samples[:, :-1]) % 4 == 1)),
        }

    def longest(self, sequence: str) -> float:
        sizes = range(len(self.motif), 0, -1)
        return next((size / len(self.motif) for size in sizes if self.motif[:size] in sequence), 0.0)
