"""Motifs: the letter probabilities of binding sites, from files in the JASPAR and the MEME format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepo.typing import Float

LETTERS = "ACGT"
"""In the order of the tokens 0, 1, 2, 3."""
Matrix = Float[Tensor, "4 _"]


@dataclass(frozen=True, eq=False)
class Motifs:
    """matrices: the probability of each letter at each place; names: one each, all different."""

    names: tuple[str, ...]
    matrices: tuple[Matrix, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.matrices) or not self.names:
            raise ValueError(
                f"{len(self.names)} names and {len(self.matrices)} matrices: give at least one, each named."
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"The motif {twice[0]!r} is there twice: names must differ.")
        for name, matrix in zip(self.names, self.matrices, strict=True):
            sums = matrix.sum(0)
            if (
                matrix.shape[0] != 4
                or matrix.shape[1] < 1
                or bool((matrix < 0).any())
                or bool((sums - 1).abs().gt(1e-3).any())
            ):
                raise ValueError(
                    f"The motif {name!r} is no table of probabilities: 4 rows, A, C, G and T, and in each of its "
                    f"{matrix.shape[-1]} columns numbers that add up to 1."
                )

    def __len__(self) -> int:
        return len(self.names)


def read_motifs(path: str | Path) -> Motifs:
    """Those of a file: MEME (its first line says so), else JASPAR's counts.

    Counts and probabilities become probabilities as they are; what keeps a zero from being -inf is said where a
    sequence is scanned.

    Raises:
        ValueError: the file is not there, is of neither format, or holds no motif.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there: give a file of motifs in the JASPAR or the MEME format.")
    text = path.read_text(encoding="utf-8")
    try:
        found = list(_meme(text) if text.lstrip().startswith("MEME version") else _jaspar(text))
    except (ValueError, IndexError, KeyError, AssertionError) as error:
        raise ValueError(f"{path} is no file of motifs in the JASPAR or the MEME format: {error}") from error
    if not found:
        raise ValueError(f"{path} holds no motif: JASPAR's begin with a line of > and a name, MEME's with MOTIF.")
    return Motifs(tuple(name for name, _ in found), tuple(matrix for _, matrix in found))


def _jaspar(text: str) -> Iterator[tuple[str, Matrix]]:
    try:
        from Bio import motifs
    except ImportError as error:
        raise ValueError("Motifs in the JASPAR format need Biopython: pip install biopython (extra `dna`).") from error
    parsed: Any = motifs.parse(text.splitlines(keepends=True), "jaspar")
    for motif in parsed:
        counts = torch.tensor([motif.counts[letter] for letter in LETTERS], dtype=torch.double)
        yield motif.matrix_id or motif.name, counts / counts.sum(0)


def _meme(text: str) -> Iterator[tuple[str, Matrix]]:
    """Biopython reads this format too, but as whole numbers of sites, which moves the probabilities."""
    blocks = text.split("\nMOTIF ")
    for block in blocks[1:]:
        lines = block.splitlines()
        name = lines[0].split()[0]
        starts = [number for number, line in enumerate(lines) if line.startswith("letter-probability matrix")]
        if not starts:
            raise ValueError(f"the motif {name!r} has no letter-probability matrix")
        start = starts[0]
        width = int(lines[start].split("w=")[1].split()[0])
        numbers = [[float(word) for word in line.split()] for line in lines[start + 1 : start + 1 + width]]
        if len(numbers) != width or any(len(row) != 4 for row in numbers):
            raise ValueError(f"the motif {name!r} must have w={width} rows of 4 probabilities")
        table = torch.tensor(numbers, dtype=torch.double)
        yield name, (table / table.sum(1, keepdim=True)).T
