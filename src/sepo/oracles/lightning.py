"""Sequence-to-function models of gReLU, such as the fine-tuned Enformers of the enhancer benchmark, as oracles.

A Lightning file of gReLU holds the parameters of its model and how it was trained; the model itself is built by the
package (pip install 'sepo[grelu]'). An Enformer is built without the download of its pretrained trunk, which the file's
own weights replace. Nothing that the file holds is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sepo.models.published.pickled import plain, unpickle
from sepo.typing import Float, Tokens

PREFIX = "model."
MODELS = "grelu.model.models"
PRETRAINED = {"EnformerPretrainedModel": "EnformerModel"}
"""Models that download a trunk when they are built, and the same without."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mse": lambda x: x,
    "poisson": torch.exp,
    "poisson_multinomial": torch.exp,
    "binary": torch.sigmoid,
    "multiclass": lambda x: x.softmax(1),
}
"""By the loss of a regression, else by the kind of task."""


@dataclass(frozen=True, eq=False)
class LightningOracle:
    """network: one-hot [batch 4 length] -> [batch tracks 1]; column: the track that is the activity."""

    network: nn.Module
    activation: Callable[[Tensor], Tensor]
    column: int = 0
    at_once: int = 256

    def __call__(self, tokens: Tokens) -> Float[Tensor, " batch"]:
        return self.tracks(tokens)[:, self.column]

    @torch.no_grad()
    def tracks(self, tokens: Tokens) -> Float[Tensor, "batch tracks"]:
        """All answers, on the CPU; tokens 0, 1, 2, 3 are A, C, G, T."""
        device = next(self.network.parameters()).device
        parts = [self._answers(functional.one_hot(part.to(device), 4).float()) for part in tokens.split(self.at_once)]
        return torch.cat(parts).float().cpu()

    def to(self, device: torch.device | str) -> LightningOracle:
        """The same, its network moved."""
        return replace(self, network=self.network.to(device))

    def soft(self, onehot: Float[Tensor, "batch length letters"]) -> Float[Tensor, " batch"]:
        """One-hot rows or probabilities, with a gradient in them, for DRAKES and guidance."""
        return self._answers(onehot[..., :4])[:, self.column]

    def _answers(self, onehot: Float[Tensor, "batch length 4"]) -> Float[Tensor, "batch tracks"]:
        answers = self.activation(self.network(onehot.transpose(1, 2)))
        if answers.ndim != 3 or answers.shape[2] != 1:
            raise ValueError(
                f"The model answers with the shape {list(answers.shape)}, and an oracle with [batch, tracks, 1], one "
                "number per sequence and track: train it with final_pool_func='avg'."
            )
        return answers.squeeze(2)


def load_lightning(path: Path | str, column: int = 0, device: torch.device | str | None = None) -> LightningOracle:
    """
    Raises:
        ValueError: the file is not there, is no checkpoint of gReLU, does not fit its own description, has no such
            column, or gReLU is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there: give a Lightning checkpoint (.ckpt) of gReLU.")
    content = unpickle(path)
    told = plain(content.get("hyper_parameters")) if isinstance(content, Mapping) else None
    if not isinstance(told, dict) or not isinstance(told.get("model_params"), dict):
        raise ValueError(f"{path} is no checkpoint of gReLU: it has no hyper_parameters with model_params.")
    state = {str(name)[len(PREFIX) :]: each for name, each in content["state_dict"].items() if name.startswith(PREFIX)}
    network = _built(dict(told["model_params"]), path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the model that it describes. {error}") from error
    tracks = told["model_params"].get("n_tasks", 1)
    if not 0 <= column < tracks:
        raise ValueError(f"{path}: column {column} is none of the model's {tracks}, which count from 0.")
    return LightningOracle(network.eval().requires_grad_(False).to(device or "cpu"), _activation(told, path), column)


def _built(parameters: dict[str, Any], path: Path) -> nn.Module:
    kind = str(parameters.pop("model_type", ""))
    try:
        models = import_module(MODELS)
    except ImportError as error:
        raise ValueError(
            f"{path} needs the package gReLU, which builds its model: pip install 'sepo[grelu]'."
        ) from error
    built = vars(models).get(PRETRAINED.get(kind, kind))
    if built is None:
        raise ValueError(f"{path} is of the model {kind!r}, which the installed gReLU does not know.")
    return built(**parameters)


def _activation(told: Mapping[str, Any], path: Path) -> Callable[[Tensor], Tensor]:
    trained = told.get("train_params") or {}
    kind = str(trained.get("task", "binary")).lower()
    name = str(trained.get("loss", "")).lower() if kind == "regression" else kind
    if name not in ACTIVATIONS:
        raise ValueError(
            f"{path}: task={kind!r} with loss={trained.get('loss')!r} is none of {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]
