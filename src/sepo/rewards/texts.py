"""Ready rewards for text: patterns, answers, lengths, repetitions, letters. Messages count as their content."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sepo.rewards.messages import text_of

NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d{1,3})?")


def default_length(completion: Any) -> int:
    """Characters of a text or of messages, entries of an array."""
    if isinstance(completion, (str, list, tuple)):
        return len(text_of(completion))
    return len(completion)


@dataclass(frozen=True)
class RegexReward:
    """`hit` where the pattern occurs in the text, else `miss`. `whole`: the pattern must match all of the text.

    Flags stand in the pattern, such as (?s) to let a dot match line ends.
    """

    pattern: str
    whole: bool = False
    hit: float | int = 1.0
    miss: float | int = 0.0

    def __post_init__(self) -> None:
        _compiled(self.pattern)

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float]:
        pattern = _compiled(self.pattern)
        matches = pattern.fullmatch if self.whole else pattern.search
        return [float(self.hit if matches(text_of(completion)) else self.miss) for completion in completions]


@dataclass(frozen=True)
class ExactMatch:
    """1 where the answer is the one in the dataset's `column`, else 0; None where that is None.

    Both are stripped; two numbers are equal by value (3 and 3.0, 3,000 and 3000). `pattern`: the answer is the first
    group of its last match (the whole match if it has no group), and a text without a match is wrong.
    """

    column: str = "answer"
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            _compiled(self.pattern)

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if self.column not in columns:
            raise ValueError(
                f"The dataset has no column {self.column!r}: name the one with the answers, ExactMatch(column=...)."
            )
        return [
            self._value(text_of(completion), answer)
            for completion, answer in zip(completions, columns[self.column], strict=True)
        ]

    def _value(self, text: str, answer: Any) -> float | None:
        if answer is None:
            return None
        if self.pattern is not None:
            matches = list(_compiled(self.pattern).finditer(text))
            if not matches:
                return 0.0
            text = matches[-1].group(1 if matches[-1].re.groups else 0) or ""
        return float(_comparable(text) == _comparable(str(answer)))


@dataclass(frozen=True)
class LengthPenalty:
    """Nothing up to longest - slack, then falling linearly to -1 at `longest`, and -1 beyond.

    "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", arXiv 2503.14476, equation 13.

    measure: the length of a completion; by default the characters of a text, the entries of an array.
    """

    longest: int
    slack: int
    measure: Callable[[Any], float | int] = default_length

    def __post_init__(self) -> None:
        if not 0 <= self.slack <= self.longest:
            raise ValueError(f"slack={self.slack}: must lie between 0 and longest={self.longest}.")

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float]:
        excess = [self.measure(completion) - (self.longest - self.slack) for completion in completions]
        return [0.0 if over <= 0 else -1.0 if over >= self.slack else -over / self.slack for over in excess]


@dataclass(frozen=True)
class RepetitionPenalty:
    """-most times the share of n-grams of token ids that occurred before in the completion: 0 without repetition.

    "Demystifying Long Chain-of-Thought Reasoning in LLMs", arXiv 2502.03373, appendix C.2.

    ignored: ids that are skipped, such as padding and end-of-sequence tokens that fill up the canvas.
    """

    size: int = 3
    most: float | int = 1.0
    ignored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}: an n-gram has at least 1 token.")

    def __call__(self, completion_ids: Sequence[Any], **kwargs: Any) -> list[float]:
        return [self._value([int(each) for each in ids]) for ids in completion_ids]

    def _value(self, ids: list[int]) -> float:
        kept = [each for each in ids if each not in self.ignored]
        grams = [tuple(kept[start : start + self.size]) for start in range(len(kept) - self.size + 1)]
        return self.most * (len(set(grams)) / len(grams) - 1) if grams else 0.0


@dataclass(frozen=True)
class LetterShare:
    """The share of a text's characters that are among `letters`: LetterShare("GC") is the GC content, in either case.

    With a `target`, minus the distance to it. None for an empty text.
    """

    letters: str
    target: float | int | None = None

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        return [self._value(text_of(completion).upper()) for completion in completions]

    def _value(self, text: str) -> float | None:
        if not text:
            return None
        share = sum(map(text.count, set(self.letters.upper()))) / len(text)
        return share if self.target is None else 0.0 - abs(share - self.target)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"The pattern {pattern!r} is not a regular expression: {error}. Escape what is meant literally."
        ) from error


def _comparable(text: str) -> str | Decimal:
    stripped = text.strip()
    return Decimal(stripped.replace(",", "")) if NUMBER.fullmatch(stripped) else stripped
