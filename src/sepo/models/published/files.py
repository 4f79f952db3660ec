"""What one file of published weights holds for torch.load, by the code that reads it: plain data and tensors.

Codes that keep a moving average ask for one; what is written is the weights themselves, so that whoever evaluates
either evaluates this model. Counts begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

LIGHTNING = "2.0.0"
"""The release of Lightning since which a file is laid out so."""

Weights = dict[str, Tensor]
FileOf = Callable[[Weights, Mapping[str, Any], tuple[str, ...]], dict[str, Any]]
"""(weights, by the names there, in the order there; described, the configuration of the network, with the
hyper-parameters of the file that it came from, if there was one; untracked, ends of the names of tensors without a
moving average) -> what torch.save writes."""


def weights_alone(weights: Weights, described: Mapping[str, Any], untracked: tuple[str, ...]) -> dict[str, Any]:
    return weights


def lightning_file(weights: Weights, described: Mapping[str, Any], untracked: tuple[str, ...]) -> dict[str, Any]:
    """What `load_from_checkpoint` of the authors' modules reads. Those modules ask for counters."""
    told = described.get("hyper_parameters") or {}
    none_yet = {"current": {"completed": 0}}
    return {
        "state_dict": weights,
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": LIGHTNING,
        "loops": {"fit_loop": {"epoch_progress": none_yet, "epoch_loop.batch_progress": none_yet}},
        "ema": _average(weights, told, untracked),
        **({"hyper_parameters": told} if told else {}),
    }


def sedd_file(weights: Weights, described: Mapping[str, Any], untracked: tuple[str, ...]) -> dict[str, Any]:
    """What `load_model_local` of SEDD's code reads. Its training would ask for the optimizer too, which is not here."""
    told = described.get("hyper_parameters") or {}
    return {"model": weights, "ema": _average(weights, told, untracked), "step": 0}


def _average(weights: Weights, hyper_parameters: Mapping[str, Any], untracked: tuple[str, ...]) -> dict[str, Any]:
    shadows = [tensor for name, tensor in weights.items() if not name.endswith(untracked)]
    return {"decay": _decay(hyper_parameters), "num_updates": 0, "shadow_params": shadows}


def _decay(hyper_parameters: Mapping[str, Any]) -> float:
    """As the file said that this model came from, else as the configurations of SEDD and MDLM do."""
    config = hyper_parameters.get("config", hyper_parameters)
    training = config.get("training") if isinstance(config, Mapping) else None
    found = training.get("ema") if isinstance(training, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else 0.9999
