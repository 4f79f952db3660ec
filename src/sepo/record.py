"""A record: a frozen bundle of batch-first tensors that is moved, indexed, joined and stored as one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, eq=False)
class Record:
    """Base of the data nouns. Every field is a tensor whose first axis is the batch, another record, or None."""

    def map(self: R, change: Callable[[Tensor], Tensor]) -> R:
        """The same record with `change` applied to every tensor in it."""
        changed = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = change(value)
            elif isinstance(value, Record):
                changed[field.name] = value.map(change)
        return replace(self, **changed)

    def to(self: R, device: torch.device | str) -> R:
        return self.map(lambda tensor: tensor.to(device))

    def __getitem__(self: R, index: slice | int | Tensor) -> R:
        """Rows of the batch; an int would drop the batch axis and is refused."""
        if isinstance(index, int):
            raise ValueError(
                f"record[{index}] would drop the batch axis; take a slice such as record[{index}:{index + 1}]."
            )
        return self.map(lambda tensor: tensor[index])

    def __len__(self) -> int:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (Tensor, Record)):
                return len(value)
        return 0

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """All tensors under dotted names, as safetensors stores them."""
        found: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                found[prefix + field.name] = value
            elif isinstance(value, Record):
                found |= value.tensors(f"{prefix}{field.name}.")
        return found


def concatenate(records: Sequence[R]) -> R:
    """The rows of all records, one after the other."""
    first = records[0]
    joined = {}
    for field in fields(first):
        values = [getattr(record, field.name) for record in records]
        if isinstance(values[0], Tensor):
            joined[field.name] = torch.cat(values)
        elif isinstance(values[0], Record):
            joined[field.name] = concatenate(values)
    return replace(first, **joined)
