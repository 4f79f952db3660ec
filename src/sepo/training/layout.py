"""Which sequences a process draws, and how they are cut: groups, collections, optimizer steps, micro-batches.

A collection is what is sampled at once: steps_per_generation micro-batches on each process, used num_iterations times.
Groups are numbered over the whole run; inside a collection the groups of one optimizer step are consecutive, so that a
run on two processes sees in every step the groups that a run on one process sees.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

_PUBLIC = {
    "micro": "per_device_train_batch_size",
    "group": "num_generations",
    "accumulation": "gradient_accumulation_steps",
    "per_collection": "steps_per_generation",
    "iterations": "num_iterations",
    "world": "the number of processes",
}


@dataclass(frozen=True)
class Layout:
    """Sizes in sequences (micro, group) or micro-batches (accumulation, per_collection), as TRL counts them.

    micro: per_device_train_batch_size; accumulation: gradient_accumulation_steps; per_collection: steps_per_generation;
    iterations: num_iterations; group: num_generations.
    """

    micro: int
    group: int
    accumulation: int = 1
    per_collection: int = 1
    iterations: int = 1
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        sizes = asdict(self)
        for name, public in _PUBLIC.items():
            if sizes[name] < 1:
                raise ValueError(f"{public}={sizes[name]}: must be at least 1.")
        if self.per_collection % self.accumulation:
            raise ValueError(
                f"steps_per_generation={self.per_collection} is not a multiple of "
                f"gradient_accumulation_steps={self.accumulation}: "
                "an optimizer step would mix two collections. Make it a multiple."
            )
        if self.local % self.group:
            raise ValueError(
                f"per_device_train_batch_size={self.micro} x steps_per_generation={self.per_collection} = {self.local} "
                "sequences are not "
                f"whole groups of num_generations={self.group}; a group stays on one process. Choose a divisor of "
                f"{self.local}."
            )

    def public(self) -> dict[str, int]:
        """The sizes that all processes share, under the names of their options."""
        return {public: asdict(self)[name] for name, public in _PUBLIC.items()}

    @property
    def local(self) -> int:
        """Sequences that this process draws per collection."""
        return self.micro * self.per_collection

    @property
    def groups(self) -> int:
        """Groups per collection, all processes together."""
        return self.local // self.group * self.world

    @property
    def batches(self) -> int:
        """Micro-batches that this process yields per collection."""
        return self.per_collection * self.iterations

    def group_indices(self, collection: int) -> list[int]:
        """The groups of this process in a collection, in the order in which it uses them."""
        per_step, split = divmod(self.micro * self.accumulation, self.group)
        steps = self.per_collection // self.accumulation
        if split:
            per_step, steps = self.local // self.group, 1
        opening = collection * self.groups
        return [
            opening + (step * self.world + self.rank) * per_step + index
            for step in range(steps)
            for index in range(per_step)
        ]
