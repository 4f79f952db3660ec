"""Letters and tokens of biological sequences: the token of a letter is its place in the alphabet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import torch
from torch import Tensor

from sepo.typing import Int, Tokens


@dataclass(frozen=True)
class Alphabet:
    letters: str

    def knows(self, sequence: str) -> bool:
        return bool(sequence) and set(sequence) <= set(self.letters)

    def encode(self, sequences: Sequence[str]) -> Tokens:
        """
        Raises:
            ValueError: a sequence has another length than the first, or a letter outside the alphabet.
        """
        for row, sequence in enumerate(sequences):
            strange = sorted(set(sequence) - set(self.letters))
            if strange or len(sequence) != len(sequences[0]):
                problem = f"the letter {strange[0]!r}" if strange else f"{len(sequence)} letters"
                raise ValueError(
                    f"Sequence {row} ({sequence[:20]}...) has {problem}; expected {len(sequences[0])} letters of "
                    f"{self.letters}."
                )
        codes = np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8)
        table = np.zeros(128, dtype=np.int64)
        table[np.frombuffer(self.letters.encode("ascii"), dtype=np.uint8)] = np.arange(len(self.letters))
        return torch.from_numpy(table[codes]).view(len(sequences), -1)

    def decode(self, tokens: Int[Tensor, "batch length"]) -> list[str]:
        return self.words(tokens.tolist())

    def words(self, rows: Iterable[Iterable[SupportsIndex]]) -> list[str]:
        """Of rows that may have any length."""
        return ["".join(self.letters[token] for token in row) for row in rows]


ALPHABETS: dict[str, Alphabet] = {
    "dna": Alphabet("ACGT"),
    "rna": Alphabet("ACGU"),
    "protein": Alphabet("ACDEFGHIKLMNPQRSTVWY"),
}


def alphabet_named(name: str) -> Alphabet:
    """A name of the table, or the letters themselves.

    Raises:
        ValueError: it is neither, or a letter is small: sequences are read as capitals.
    """
    if name in ALPHABETS:
        return ALPHABETS[name]
    if name.upper() != name and len(set(name.upper())) == len(name):
        raise ValueError(
            f"alphabet={name!r}: sequences are read as capitals, of which small letters are none; give {name.upper()}, "
            f"or choose one of {', '.join(ALPHABETS)}."
        )
    if len(name) > 1 and len(set(name)) == len(name) and name.isascii():
        return Alphabet(name)
    raise ValueError(f"alphabet={name!r}: choose one of {', '.join(ALPHABETS)}, or give the letters, each once: ACGT.")
