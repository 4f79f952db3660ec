"""The DNA network as it is, against the same network with torch's own Conv1d: ratios of seconds, on one thread.

python benchmarks/dna_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from sepo.models.networks.dna_cnn import Convolution, DnaCnn, DnaCnnConfig

BATCH, LENGTH, REPEATS = 64, 170, 5


class ChannelsFirst(Convolution):
    """The same tensors, read by torch's Conv1d."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.Conv1d.forward(self, input.transpose(1, 2)).transpose(1, 2)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(network: DnaCnn, work: Callable[[], object]) -> float:
    """Median over repeats of Conv1d's seconds by ours, each pair one after the other."""
    convolutions = [module for module in network.modules() if isinstance(module, Convolution)]
    found = []
    for _ in range(REPEATS + 1):
        taken = []
        for kind in (ChannelsFirst, Convolution):
            for module in convolutions:
                module.__class__ = kind
            taken.append(seconds(work))
        found.append(taken[0] / taken[1])
    return median(found[1:])


def ratios(width: int) -> tuple[float, float]:
    """Of the forward, and of forward and backward."""
    network, tokens = DnaCnn(DnaCnnConfig(5, LENGTH, hidden_size=width)), torch.randint(0, 5, (BATCH, LENGTH))
    with torch.no_grad():
        forward = ratio(network, lambda: network(tokens))
    return forward, ratio(network, lambda: network(tokens).square().mean().backward())


def main() -> None:
    shown = Table(title=f"{BATCH} sequences of {LENGTH}: Conv1d's seconds / ours")
    for column in ("channels", "forward", "forward and backward"):
        shown.add_column(column, justify="right")
    for width in (64, 128):
        shown.add_row(str(width), *(f"{each:.2f}" for each in ratios(width)))
    Console().print(shown)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
