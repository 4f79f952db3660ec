"""A task so small that every command runs in a moment: 2 x 3 pixels in three greys, worth their dark ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sepo.diffusion.process import Absorbing
from sepo.models import as_denoiser
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.runs import Pixels
from sepo.tasks import Task

LENGTH = 6


@dataclass(frozen=True)
class Toy(Task):
    """grey: what is worth 1; prompted: the first pixel is given."""

    grey: int = 2
    prompted: bool = False

    def corpus(self):
        return [{"tokens": row} for row in np.random.default_rng(0).integers(3, size=(20, LENGTH)).tolist()]

    def heldout(self):
        return [{"tokens": row} for row in np.random.default_rng(1).integers(3, size=(4, LENGTH)).tolist()]

    def prompts(self):
        free = [False] + [True] * (LENGTH - 1)
        return (
            [{**row, "free": free, "weight": place} for place, row in enumerate(self.corpus())]
            if self.prompted
            else None
        )

    def test_prompts(self):
        rows = self.prompts()
        return None if rows is None else rows[:3]

    def denoiser(self):
        network = Transformer(
            TransformerConfig(vocab_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        )
        return as_denoiser(network, Absorbing(4, mask=3), length=LENGTH)

    def reward(self, prompts, completions, completion_ids, **columns):
        return (np.stack(completions) == self.grey).mean(1).tolist()

    def metrics(self, prompts, completions, **columns):
        return {"light": float((np.stack(completions) == 0).mean()), "light/first": 0.5}

    def draw(self, prompts, tokens):
        return Pixels(tokens.reshape(*tokens.shape[:-1], 2, 3), levels=3)


def light(completions, **kwargs):
    return [float((each == 0).mean()) for each in completions]


def ink(completions, completion_ids, weight=None, **kwargs):
    return [None if each.sum() == 0 else float(each.sum()) for each in completions]


def broken(completions, **kwargs):
    return [1 / 0 for _ in completions]


def letters(completions, **kwargs):
    return [text.count("A") for text in completions]


not_callable = 3
