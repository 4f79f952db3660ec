"""Fitting an oracle to measured sequences: squared error, stopped where held-back sequences are predicted best."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from sepo.oracles.measurements import Measurements
from sepo.oracles.network import ConvOracle, ConvOracleConfig
from sepo.typing import Float

HELD_BACK = 0.1
LEAST_HELD = 10
"""Of fewer than 100 rows so many are held back: the correlation of two is 1 or -1, that of one nothing."""
LEAST_FITTED = 2 * LEAST_HELD
"""Rows of which an oracle can be fitted at all."""
LEAST_EPOCHS, LEAST_UPDATES = 12, 800
RATES = {"motifs": 2e-3, "dilated": 6e-3}
"""Learning rates by architecture: batch norm bears more, and needs it."""


@dataclass(frozen=True)
class Fit:
    """How an oracle is fitted. patience: epochs without a better correlation before it stops; lr: Adam's, at the top
    of a one-cycle schedule, None for that of the architecture.
    """

    architecture: str = "motifs"
    hidden_size: int = 64
    epochs: int = 12
    batch: int = 256
    lr: float | None = None
    weight_decay: float = 1e-4
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "epochs", "batch", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1.")

    @staticmethod
    def sized(sequences: int, architecture: str, epochs: int | None = None, seed: int = 0) -> Fit:
        """12 epochs; of fewer than about 18,800 sequences as many as make 800 updates, since a network that has seen a
        table of 2,000 twelve times has made a hundred. A quarter of the epochs, at least 4, without a better
        correlation end it.
        """
        how = Fit(architecture, seed=seed)
        if epochs is None:
            per_epoch = max(-(-(sequences - held_back(sequences)) // how.batch), 1)
            epochs = max(LEAST_EPOCHS, -(-LEAST_UPDATES // per_epoch))
        return replace(how, epochs=epochs, patience=max(how.patience, epochs // 4))

    @property
    def rate(self) -> float:
        """The learning rate that is used."""
        return RATES[self.architecture] if self.lr is None else self.lr


def fit(
    measured: Measurements,
    how: Fit,
    told: Callable[[int, float], None] = lambda epoch, correlation: None,
    stepped: Callable[[float], None] = lambda epochs: None,
    device: torch.device | str = "cpu",
) -> ConvOracle:
    """told(epoch, correlation on the held-back tenth) is called after each epoch, stepped(epochs so far) after each
    batch. device: where it is fitted, and stays.

    Raises:
        ValueError: there are too few rows, or the network never predicted a finite number.
    """
    if len(measured) < LEAST_FITTED:
        raise ValueError(
            f"{len(measured)} sequences: an oracle is fitted to {LEAST_FITTED} or more, of which {LEAST_HELD} are held "
            "back to stop it. Give it more of the table."
        )
    where = torch.device(device)
    generator = Generator().manual_seed(how.seed)
    order = torch.randperm(len(measured), generator=generator)
    held, used = order.split([held_back(len(order)), len(order) - held_back(len(order))])
    target = measured.activity
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(how.seed)
        oracle = _untrained(measured.alphabet.letters, target[used], how).to(where)  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(oracle.parameters(), lr=how.rate, weight_decay=how.weight_decay)
        steps = how.epochs * -(-len(used) // how.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.rate, total_steps=steps)
        best, weights, since = -2.0, copy.deepcopy(oracle.state_dict()), 0
        for epoch in range(how.epochs):
            batches = _batches(used[torch.randperm(len(used), generator=generator)], how.batch)
            for number, rows in enumerate(batches, 1):
                _learn(oracle.train(), measured.tokens[rows], target[rows], optimizer)
                schedule.step()
                stepped(epoch + number / len(batches))
            found = correlation(predicted(oracle.eval(), measured.tokens[held]), target[held])
            told(epoch, found)
            since = 0 if found > best else since + 1
            if found > best:
                best, weights = found, copy.deepcopy(oracle.state_dict())
            if since >= how.patience:
                break
    if best < -1:
        raise ValueError(
            f"The network diverged: with lr={how.rate} it predicts NaN of held-back sequences after every epoch. Fit "
            "it with a smaller lr, or give activities without outliers."
        )
    oracle.load_state_dict(weights)
    return oracle.eval()


def _untrained(letters: str, target: Tensor, how: Fit) -> ConvOracle:
    """With the mean and the deviation of what it will be fitted to."""
    mean, deviation = float(target.mean()), max(float(target.std()), 1e-6)
    return ConvOracle(ConvOracleConfig(letters, how.architecture, how.hidden_size, mean=mean, deviation=deviation))


def _learn(oracle: ConvOracle, tokens: Tensor, target: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One update."""
    config, where = oracle.config, next(oracle.parameters()).device
    onehot = functional.one_hot(tokens.to(where), len(config.letters)).float()
    error = oracle.standardised(onehot) - (target.to(where) - config.mean) / config.deviation
    optimizer.zero_grad()
    error.square().mean().backward()
    optimizer.step()


def _batches(rows: Tensor, size: int) -> list[Tensor]:
    """A last batch of one joins the one before it: a single row has no statistics to normalise by."""
    batches = list(rows.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def held_back(sequences: int) -> int:
    """Of so many: a tenth, of fewer than 100 up to 10, but never more than half."""
    return max(int(HELD_BACK * sequences), min(LEAST_HELD, sequences // 2), 1)


@torch.no_grad()
def predicted(oracle: ConvOracle, tokens: Tensor, at_once: int = 1024) -> Float[Tensor, " batch"]:
    letters, device = len(oracle.config.letters), next(oracle.parameters()).device
    parts = [oracle(functional.one_hot(part.to(device), letters).float()) for part in tokens.split(at_once)]
    return torch.cat(parts).cpu()


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's; 0 if one of them does not vary, NaN if one of them holds what is not finite."""
    first, second = first.double() - first.double().mean(), second.double() - second.double().mean()
    scale = float((first.square().sum() * second.square().sum()).sqrt())
    return 0.0 if scale == 0 else float((first * second).sum()) / scale
