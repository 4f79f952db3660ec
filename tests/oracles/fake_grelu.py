"""A stand-in for the package gReLU: its class of models with a convolution in place of an Enformer, and files like its.

gReLU's own Enformer has 250 million parameters; the layout of the file and the call are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

MODEL = {"model_type": "EnformerPretrainedModel", "n_tasks": 3}
REGRESSION = {"task": "regression", "loss": "MSE", "lr": 1e-4, "logger": "wandb"}
BINARY = {"task": "binary", "loss": "bce"}


class EnformerModel(nn.Module):
    """one-hot [batch 4 length] -> [batch n_tasks 1]"""

    def __init__(self, n_tasks: int, final_pool_func: str | None = "avg") -> None:
        super().__init__()
        self.embedding = nn.Conv1d(4, 6, 3, padding=1)
        self.head = nn.Conv1d(6, n_tasks, 1)
        self.pool = final_pool_func is not None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tracks = self.head(self.embedding(x).relu())
        return tracks.mean(2, keepdim=True) if self.pool else tracks


def installed(monkeypatch) -> None:
    """As if the package were there."""
    models = ModuleType("grelu.model.models")
    models.EnformerModel = EnformerModel  # type: ignore[attr-defined]
    for name in ("grelu", "grelu.model"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "grelu.model.models", models)


def write_checkpoint(path: Path, seed: int = 0, tracks: int = 3, trained: dict | None = None, **model) -> EnformerModel:
    """A file as Lightning writes it; what it holds the weights of is returned."""
    torch.manual_seed(seed)
    network = EnformerModel(tracks, **{key: each for key, each in model.items() if key != "model_type"})
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"model_params": {**MODEL, "n_tasks": tracks, **model}, "train_params": trained or REGRESSION}
    content = {
        "epoch": 9,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": {f"model.{name}": each for name, each in network.state_dict().items()},
        "hyper_parameters": told,
        "data_params": {"tasks": {"name": ["hepg2", "k562", "sknsh"]}},
        "performance": {},
    }
    torch.save(content, path)
    return network.eval()
