"""Reinforcement learning as a stream: an IterableDataset that collects, scores and yields micro-batches.

`transformers.Trainer` stays a supervised trainer, and a bare loop needs no trainer at all:

    for experience in stream:
        new = objective.read(policy, experience.views)
        loss = objective.loss(new, experience.old_reading(new), None, experience.credit, experience.views)
        loss.value.backward()
        optimizer.step()
        optimizer.zero_grad()

What it yields depends on the run seed and on the policy alone; `state()` is all that a resumed run needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from sepo.training.collector import Collected, Collector
from sepo.training.experience import Experience, restored
from sepo.training.layout import Layout
from sepo.training.rows import Row, Rows


class ExperienceStream(IterableDataset):
    """Endless without a dataset; with one, an iteration is an epoch: the whole collections that hold all prompts.

    Where the prompts do not fill the last collection of an epoch, those of the next order begin, so that in the long
    run all appear equally often.
    """

    def __init__(
        self,
        collector: Collector,
        layout: Layout,
        dataset: Rows | None = None,
        shuffle: bool = True,
        on_collected: Callable[[Collected], None] | None = None,
        trainer_state: Callable[[], Any] = lambda: None,
    ) -> None:
        super().__init__()
        self.collector, self.layout, self.dataset, self.shuffle = collector, layout, dataset, shuffle
        self.on_collected, self.trainer_state = on_collected, trainer_state
        self.collection, self.used = 0, 0
        self.pending: list[Experience] = []

    def __len__(self) -> int:
        """Micro-batches per epoch."""
        if self.dataset is None:
            raise TypeError("a stream without a dataset has no length")
        return -(-len(self.dataset) // self.layout.groups) * self.layout.batches

    def __iter__(self) -> Iterator[Experience | None]:
        """First a None for every micro-batch of this epoch that was used before a resume: the trainer skips as many."""
        done = self.collection * self.layout.batches + self.used
        length = None if self.dataset is None else len(self)
        position = done if length is None else done % length
        yield from [None] * position
        while length is None or position < length:
            if not self.pending:
                self._collect()
            experience = self.pending[self.used]
            self.used += 1
            if self.used == self.layout.batches:
                self.collection, self.used, self.pending = self.collection + 1, 0, []
            position += 1
            yield experience

    def rows(self, groups: Sequence[int]) -> list[Row]:
        """The prompt of each group: the dataset over and over, in a new order each time if `shuffle`."""
        if self.dataset is None:
            return [{} for _ in groups]
        return [self.dataset[self._place(group)] for group in groups]

    def state(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """Position, and the micro-batches of a collection that is not used up (what cannot be collected again)."""
        tensors = {
            f"{index}.{name}": tensor.clone(memory_format=torch.contiguous_format)
            for index, experience in enumerate(self.pending)
            for name, tensor in experience.tensors().items()
        }
        return {"collection": self.collection, "used": self.used, "pending": len(self.pending)}, tensors

    def restart(self) -> None:
        """Back to the first prompt."""
        self.collection, self.used, self.pending = 0, 0, []

    def restore(self, position: dict[str, int], tensors: dict[str, Tensor]) -> None:
        self.collection, self.used = position["collection"], position["used"]
        device = self.collector.policy.device
        self.pending = []
        for index in range(position["pending"]):
            prefix = f"{index}."
            found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            self.pending.append(restored(found).to(device))

    def _place(self, group: int) -> int:
        size = len(self.dataset or ())
        epoch, index = divmod(group, size)
        return int(_order(self.collector.seed, epoch, size)[index]) if self.shuffle else index

    def _collect(self) -> None:
        groups = self.layout.group_indices(self.collection)
        collected = self.collector.collect(self.rows(groups), groups, self.trainer_state())
        if self.on_collected is not None:
            self.on_collected(collected)
        several_steps = self.layout.batches > self.layout.accumulation
        for iteration in range(self.layout.iterations):
            self.pending += self.collector.experiences(collected, iteration, self.layout.micro, several_steps)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)
