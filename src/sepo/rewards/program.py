"""A program as a reward: completions go in, one per line, and one number per line comes out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from sepo.rewards.messages import shortened, text_of
from sepo.rewards.named import NamedReward
from sepo.rewards.request import RESERVED


@dataclass(frozen=True)
class ProgramReward(NamedReward):
    """Starts `command` once per batch. It reads one completion per line, arrays as numbers with spaces between them,
    and writes one line for each: a number, or nothing or "none" where the reward does not apply.

    Args:
        command: the program and its arguments.
        timeout: seconds after which the program is ended; None: no limit.
        as_json: it reads a JSON object per line, with `prompt`, `completion` and the columns of the dataset.
    """

    command: tuple[str, ...]
    timeout: float | int | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command=(): name the program and its arguments.")

    @property
    def name(self) -> str:
        return PurePath(self.command[0]).name

    def __call__(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        """
        Raises:
            ValueError: the program cannot be started, takes too long, fails, or does not write one number per
                completion.
        """
        if self.as_json:
            given = {"prompt": [None] * len(completions) if prompts is None else prompts, "completion": completions}
            lines = _json_lines(given | {name: columns[name] for name in columns if name not in RESERVED})
        else:
            lines = [_line(completion, index) for index, completion in enumerate(completions)]
        try:
            ended = subprocess.run(
                self.command,
                input="".join(f"{line}\n" for line in lines),
                capture_output=True,
                text=True,
                timeout=self.timeout,
            )
        except OSError as error:
            raise ValueError(
                f"The program {self.command[0]!r} cannot be started: {error.strerror}. Check its path."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"The program {self.name!r} took longer than timeout={self.timeout} s and was ended. Allow more."
            ) from error
        if ended.returncode != 0:
            said = " ".join(ended.stderr.split()[-40:]) or "nothing"
            raise ValueError(f"The program {self.name!r} ended with code {ended.returncode} and said: {said}")
        written = ended.stdout.splitlines()
        if len(written) != len(lines):
            raise ValueError(
                f"The program {self.name!r} wrote {len(written)} lines for {len(lines)} completions: it must write "
                "one each."
            )
        return [self._value(text, index) for index, text in enumerate(written)]

    def _value(self, text: str, index: int) -> float | None:
        if text.strip().lower() in ("", "none", "null"):
            return None
        try:
            return float(text)
        except ValueError:
            raise ValueError(
                f"The program {self.name!r} wrote {shortened(text)} for completion {index}: it must write a number "
                "or none."
            ) from None


def _line(completion: Any, index: int) -> str:
    if isinstance(completion, np.ndarray):
        return " ".join(map(str, completion.tolist()))
    text = text_of(completion)
    if len(text.splitlines()) > 1 or text.endswith("\n"):
        raise ValueError(
            f"Completion {index}, {shortened(text)}, has several lines and a program reads one line per completion: "
            "let it read JSON, ProgramReward(..., as_json=True)."
        )
    return text


def _json_lines(given: Mapping[str, Sequence[Any]]) -> list[str]:
    rows = zip(*given.values(), strict=True)
    return [json.dumps(dict(zip(given, row, strict=True)), default=_plain) for row in rows]


def _plain(value: Any) -> Any:
    """numpy's arrays and scalars as json knows them."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise ValueError(
        f"{shortened(value)} ({type(value).__name__}) has no form in JSON; leave its column out of the dataset."
    )
