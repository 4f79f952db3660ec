"""Losses and gradients that are not finite stop a run, and leave what made them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from sepo.training.experience import Experience


class NonFiniteError(ArithmeticError):
    """A loss or gradient is NaN or infinite; its micro-batches are saved beside the checkpoints."""


def require_finite(what: str, value: float, inputs: Sequence[Experience], folder: Path, step: int, rank: int) -> None:
    """
    Raises:
        NonFiniteError: the value is not finite. The micro-batches are in the file that it names.
    """
    if math.isfinite(value):
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"non_finite_step_{step}_rank_{rank}.safetensors"
    tensors = {}
    for index, each in enumerate(inputs):
        tensors |= {f"{index}.{name}": tensor.clone() for name, tensor in each.tensors().items()}
    save_file(tensors, path)
    raise NonFiniteError(
        f"The {what} is {value} at step {step}; the step was not taken. Its inputs are in {path}. A lower "
        "learning_rate, max_grad_norm or a smaller epsilon usually helps; look at the rewards for outliers."
    )
