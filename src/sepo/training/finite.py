"""Losses and gradients that are not finite stop a run, and leave what made them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sepo.record import Record

Batch = Record | Mapping[str, Tensor]


ADVICE = (
    "A lower learning_rate, max_grad_norm or a smaller epsilon usually helps; look at the rewards for outliers, and at "
    "half precision."
)
"""For fine-tuning on rewards."""


class NonFiniteError(ArithmeticError):
    """A loss or gradient is NaN or infinite; its micro-batches are saved beside the checkpoints."""


@dataclass(eq=False)
class FiniteGuard(TrainerCallback):
    """Holds the micro-batches of the optimizer step in progress, and raises before a step that is not finite is taken.

    advice: what usually helps.
    """

    network: nn.Module
    folder: Path
    advice: str
    inputs: Sequence[Batch] = field(default_factory=list)
    losses: list[tuple[Tensor, Batch]] = field(default_factory=list)

    def watch(self, loss: Tensor, inputs: Batch) -> None:
        """The loss of a micro-batch, to be looked at before the step: the device is not waited for until then."""
        self.losses.append((loss.detach(), inputs))

    def require_losses(self, step: int, rank: int) -> None:
        """
        Raises:
            NonFiniteError: a loss that was watched since the last call is not finite.
        """
        watched, self.losses = self.losses, []
        values = torch.stack([loss for loss, _ in watched]).tolist() if watched else []
        for value, (_, inputs) in zip(values, watched, strict=True):
            self.require("loss", value, step, rank, [inputs])

    def require(self, what: str, value: float, step: int, rank: int, inputs: Sequence[Batch] | None = None) -> None:
        """
        Raises:
            NonFiniteError: the value is not finite. The micro-batches are in the file that it names.
        """
        if math.isfinite(value):
            return
        path = self.folder / f"non_finite_step_{step}_rank_{rank}.safetensors"
        tensors = {}
        for index, batch in enumerate(self.inputs if inputs is None else inputs):
            named = batch.tensors() if isinstance(batch, Record) else dict(batch)
            tensors |= {f"{index}.{name}": tensor.detach().clone() for name, tensor in named.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
        raise NonFiniteError(
            f"The {what} is {value} in step {step + 1}; the step was not taken. Its inputs are in {path}. {self.advice}"
        )

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After clipping. An infinite gradient of fp16 is the business of its loss scaler."""
        self.require_losses(state.global_step, args.process_index)
        gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
        if gradients and not args.fp16:
            self.require("gradient norm", float(get_total_norm(gradients)), state.global_step, args.process_index)
