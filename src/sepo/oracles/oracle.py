"""One face for whatever knows the activity of a sequence: networks fitted here, ensembles, functions of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sepo.oracles.answers import read_answers, words_of
from sepo.oracles.fitting import predicted
from sepo.oracles.network import ConvOracle
from sepo.rewards.messages import shortened
from sepo.typing import Float, Tokens


@runtime_checkable
class Oracle(Protocol):
    """tokens [batch length] -> activity [batch]."""

    def __call__(self, tokens: Tokens) -> Float[Tensor, " batch"]: ...


@runtime_checkable
class SoftOracle(Oracle, Protocol):
    """One that has a gradient as well, for DRAKES and guidance."""

    def soft(self, onehot: Float[Tensor, "batch length letters"]) -> Float[Tensor, " batch"]:
        """Of one-hot rows or probabilities, computed by torch alone."""
        ...


@runtime_checkable
class SoftFunction(Protocol):
    """A user's function of sequences as text, with a method `soft` as a `SoftOracle` has it."""

    def __call__(self, sequences: list[str], /) -> Sequence[float]: ...

    def soft(self, onehot: Tensor, /) -> Tensor: ...


class Ensemble(nn.Module):
    """The mean of several networks, less `doubt` times their standard deviation, so that where they disagree nothing is
    gained.

    `soft` takes one-hot rows or probabilities and has a gradient in them, for DRAKES and guidance.
    """

    def __init__(self, members: Sequence[ConvOracle], doubt: float = 0.0) -> None:
        super().__init__()
        if not members:
            raise ValueError("An ensemble needs at least one oracle.")
        if doubt < 0:
            raise ValueError(f"doubt={doubt}: 0 trusts the mean, more pays for disagreement; it must not be negative.")
        self.members, self.doubt = nn.ModuleList(members).eval(), doubt

    @property
    def letters(self) -> str:
        return self.members[0].config.letters  # type: ignore[union-attr,return-value]

    def forward(self, tokens: Tokens) -> Float[Tensor, " batch"]:
        return self._settled(torch.stack([predicted(each, tokens) for each in self.members]))  # type: ignore[arg-type]

    def soft(self, onehot: Float[Tensor, "batch length letters"]) -> Float[Tensor, " batch"]:
        return self._settled(torch.stack([each(onehot) for each in self.members]))

    def spread(self, tokens: Tokens) -> Float[Tensor, " batch"]:
        """The standard deviation between members, in the unit of the activity; 0 for one."""
        answers = torch.stack([predicted(each, tokens) for each in self.members])  # type: ignore[arg-type]
        return answers.std(0, correction=0)

    def _settled(self, answers: Float[Tensor, "members batch"]) -> Float[Tensor, " batch"]:
        return answers.mean(0) - self.doubt * answers.std(0, correction=0)


@dataclass(frozen=True)
class FromFunction:
    """A function of sequences as text: it gets a list of strings and returns a number for each. name: what errors call
    it.
    """

    function: Callable[[list[str]], Sequence[float]]
    letters: str
    name: str = ""

    def __call__(self, tokens: Tokens) -> Float[Tensor, " batch"]:
        """
        Raises:
            ValueError: the function raised, or did not return one finite number per sequence.
        """
        who = f"The oracle {self.name!r}" if self.name else "The oracle"
        words = words_of(tokens, self.letters)
        try:
            said = self.function(words)
        except Exception as error:
            raise ValueError(f"{who} raised {type(error).__name__}: {error}") from error
        if not isinstance(said, Iterable) or isinstance(said, (str, bytes, Mapping)):
            raise ValueError(f"{who} returned {shortened(said)}: it must return a list of numbers, one per sequence.")
        return read_answers(list(said), len(words), who)


@dataclass(frozen=True)
class FromSoftFunction(FromFunction):
    """The same with the gradient of the function's own `soft`."""

    function: SoftFunction

    def soft(self, onehot: Float[Tensor, "batch length letters"]) -> Float[Tensor, " batch"]:
        return self.function.soft(onehot)
