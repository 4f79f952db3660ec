"""What a task is: data to pretrain on, prompts, a network, a reward, and metrics that the reward has not seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.runs.boards import Boards
from sepo.runs.pixels import Pixels
from sepo.samplers.guided import SoftReward

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TokenRows(Sequence[Row]):
    """The rows {"tokens"} of a table of sequences [rows length], made when they are asked for."""

    tokens: Int[Tensor, "rows length"]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return TokenRows(self.tokens[index])
        return {"tokens": self.tokens[index].tolist()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenRows) and torch.equal(self.tokens, other.tokens)

    __hash__ = None  # type: ignore[assignment]


class Task(ABC):
    """Derive from it to bring a problem of your own: `corpus`, `denoiser`, `reward`; the rest has defaults.

    Options are the fields of a frozen dataclass, all with defaults. Rows, prompts and completions are those of the
    trainers: without a tokenizer a row is {"tokens": [...], "free": [...]} and further columns for the reward, its
    prompt an integer array [length] with -1 at the free sites (None in an unconditional task), its completion the whole
    filled array [length].
    """

    tokenizer: PreTrainedTokenizerBase | None = None

    @abstractmethod
    def corpus(self) -> Sequence[Row]:
        """Data to pretrain on: {"tokens"}, with "free" if some sites are always given; {"text"} for a tokenizer."""

    @abstractmethod
    def denoiser(self) -> Denoiser:
        """A fresh network of a size that suits the task, its weights drawn from torch's generator."""

    @abstractmethod
    def reward(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float]:
        """What fine-tuning raises: one number per completion, higher is better."""

    def soft_reward(self, device: torch.device) -> SoftReward | None:
        """The reward of shares of tokens [batch length vocab], the mask's last, with a gradient, for DRAKES and for
        guidance by gradients; None: it has none."""
        return None

    def heldout(self) -> Sequence[Row] | None:
        """Data that is never trained on, for the bound of the pretrained model."""
        return None

    def prompts(self) -> Sequence[Row] | None:
        """What to fine-tune on: {"tokens", "free"}, or {"prompt"} for a tokenizer; None: unconditional."""
        return None

    def test_prompts(self) -> Sequence[Row] | None:
        """What to measure on, disjoint from `prompts`; None: unconditional."""
        return None

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        """Numbers about a batch of samples: those that the reward was not made of are what shows over-optimisation."""
        return {}

    def spelled(self, completions: Sequence[Any]) -> list[str] | None:
        """Samples of a task without tokenizer as people write them, such as letters of DNA; None: as their ids. Rewards
        that are named on the command line beside the task are handed them so."""
        return None

    def draw(
        self, prompts: Sequence[Any], tokens: Integer[np.ndarray, "sample *frame length"]
    ) -> Pixels | Boards | None:
        """Samples as pictures for the report, finished or with masks still in them; None: they are shown as text."""
        return None


def device_for(asked: str | None) -> str:
    """The device that was asked for, else a GPU if torch sees one, else the CPU.

    Raises:
        ValueError: torch does not see what was asked for.
    """
    accelerator = torch.accelerator.current_accelerator()
    seen = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    if asked is not None and asked.partition(":")[0] not in seen:
        raise ValueError(f"device={asked!r}: torch sees {' and '.join(seen)} here.")
    return asked or seen[-1]


def stacked(sequences: Sequence[Any], length: int) -> Integer[np.ndarray, "batch length"]:
    """Prompts or completions of a task without tokenizer as one array.

    Raises:
        ValueError: a sequence does not have `length` integers.
    """
    for position, sequence in enumerate(sequences):
        found = np.asarray(sequence)
        if found.shape != (length,) or found.dtype.kind not in "iu":
            raise ValueError(
                f"sequence {position} is {found.dtype} of shape {found.shape}; this task reads integer arrays of "
                f"{length} tokens, as a model without a tokenizer samples them."
            )
    return np.asarray(sequences, dtype=np.int64).reshape(-1, length)
