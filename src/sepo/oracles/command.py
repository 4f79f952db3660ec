"""A program as an oracle: FASTA goes in, one number per line comes out."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from torch import Tensor

from sepo.oracles.answers import read_answers, words_of
from sepo.oracles.measurements import write_fasta
from sepo.typing import Float, Tokens

PLACE = "{fasta}"
"""What stands in a command for the path of a file of the sequences."""


@dataclass(frozen=True)
class FromCommand:
    """Starts `command` once per batch. It reads the sequences as FASTA, named 1, 2, ..., from standard input, or from a
    file where one of its words holds {fasta}, and writes one number per line for each, in their order.

    Args:
        command: the program and its arguments; no shell is between.
        letters: of the tokens, such as ACGT.
        timeout: seconds after which the program is ended, with all that it started; None: no limit.
    """

    command: tuple[str, ...]
    letters: str
    timeout: float | int | None = 600

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command=(): name the program and its arguments.")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"timeout={self.timeout}: seconds above 0, or None for no limit.")

    @staticmethod
    def parsed(line: str, letters: str, timeout: float | int | None = 600) -> FromCommand:
        """Of a line as a shell has it: words with spaces are quoted.

        Raises:
            ValueError: a quotation is left open, or there is no word.
        """
        try:
            return FromCommand(tuple(shlex.split(line)), letters, timeout)
        except ValueError as error:
            raise ValueError(f"The command {line!r} cannot be read: {error}") from error

    @property
    def name(self) -> str:
        return f"The program {PurePath(self.command[0]).name!r}"

    def __call__(self, tokens: Tokens) -> Float[Tensor, " batch"]:
        """
        Raises:
            ValueError: the program cannot be started, takes too long, fails, or does not write one number per sequence.
        """
        words = words_of(tokens, self.letters)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sequences.fasta"
            write_fasta(path, [str(number) for number in range(1, len(words) + 1)], words)
            named = any(PLACE in word for word in self.command)
            command = [word.replace(PLACE, str(path)) for word in self.command]
            written = self._run(command, "" if named else path.read_text(encoding="utf-8"))
        return read_answers(written.rstrip().splitlines(), len(words), self.name, from_text=True)

    def _run(self, command: Sequence[str], given: str) -> str:
        """What it writes to standard output."""
        pipe = subprocess.PIPE
        try:
            running = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        except OSError as error:
            raise ValueError(f"{self.name} cannot be started: {error.strerror}. Check its path.") from error
        try:
            written, complaint = running.communicate(given, timeout=self.timeout)
        except subprocess.TimeoutExpired as error:
            _end(running)
            raise ValueError(
                f"{self.name} took longer than {self.timeout:g} s and was ended: allow more (--oracle_timeout), or ask "
                "it about fewer sequences."
            ) from error
        except BaseException:
            _end(running)
            raise
        if running.returncode != 0:
            said = " ".join(complaint.split()[-40:]) or "nothing"
            raise ValueError(f"{self.name} ended with code {running.returncode} and said: {said}")
        return written


def _end(running: subprocess.Popen[str]) -> None:
    """It and what it started, which are one process group."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    for stream in (running.stdin, running.stdout, running.stderr):
        if stream is not None:
            stream.close()
