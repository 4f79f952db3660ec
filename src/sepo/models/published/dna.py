"""The DNA network of DRAKES (arXiv 2410.13643): a Lightning file (`drakes`), the weights alone under the same names of
what was fine-tuned from it (`drakes_bare`), and those of the network by itself (`drakes_network`).

Published results use the raw weights, not the moving average. A, C, G, T are 0 to 3, the mask is 4.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models.families import as_denoiser
from sepo.models.networks.dna_cnn import DILATIONS, DnaCnn, DnaCnnConfig
from sepo.models.published.files import FileOf, lightning_file, weights_alone
from sepo.models.published.layout import Described, Layout, Names, prefixed, same
from sepo.models.weights import Shapes

PREFIX = "backbone."


def _config(prefix: str) -> Callable[[Described, Shapes], DnaCnnConfig]:
    def build(description: Described, shapes: Shapes) -> DnaCnnConfig:
        hidden, vocab, _ = shapes[f"{prefix}linear.weight"]
        layers = sum(name.startswith(f"{prefix}convs.") and name.endswith(".weight") for name in shapes)
        model = description.get("model") or {}
        length = model.get("length") or 200
        return DnaCnnConfig(vocab_size=vocab, length=length, hidden_size=hidden, stacks=layers // len(DILATIONS))

    return build


def _lens(network: PreTrainedModel, description: Described, tokenizer: PreTrainedTokenizerBase | None) -> Denoiser:
    size = network.config.vocab_size
    return as_denoiser(network, Absorbing(size, size - 1))


def _layout(name: str, prefix: str, names: Names, file: FileOf = weights_alone) -> Layout:
    return Layout(
        name,
        lambda description, shapes: {f"{prefix}linear.weight", f"{prefix}time_embedder.0.W"} <= shapes.keys(),
        _config(prefix),
        DnaCnn,
        names,
        _lens,
        lambda config: {"model": {"length": config.length, "hidden_dim": config.hidden_size}},
        ema=False,
        untracked=("time_embedder.0.W",),
        file=file,
        order=("linear", "time_embedder", "convs", "time_layers", "norms", "final_conv"),
    )


DRAKES = _layout("drakes", PREFIX, prefixed(PREFIX), lightning_file)
DRAKES_BARE = _layout("drakes_bare", PREFIX, prefixed(PREFIX))
DRAKES_NETWORK = _layout("drakes_network", "", same())
