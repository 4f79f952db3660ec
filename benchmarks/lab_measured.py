"""Measured worlds of the laboratory: every sequence has a number that somebody measured.

tfbind8   V=4, L=8    binding of the transcription factor SIX6 to all 65,536 8-mers (protein-binding microarray);
                      reward: E-score scaled to [0, 1]; data law: uniform over the half that binds least
gb1       V=20, L=4   fitness of protein G with its sites 39, 40, 41 and 54 varied, 149,361 of 160,000 measured;
                      reward: fitness over the largest, an unmeasured variant has the lowest measured; data law:
                      uniform over the measured ones

Tables as published: SIX6_REF_R1_8mers (columns 8-mer, E-score; a row for a word and its reverse complement) of Barrera
et al., Science 351:1450 (2016), and the four-site library of Wu et al., eLife 5:e16965 (2016) (Variants, Fitness).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import torch
from lab_worlds import LabWorld
from torch import Tensor

from sepo.evaluation.worlds import Law, World

BASES = "ACGT"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
FILES = {"tfbind8": "SIX6_REF_R1_8mers.tsv.gz", "gb1": "gb1_4site.csv.gz"}


def measured_worlds(folder: Path) -> tuple[LabWorld, ...]:
    """Both worlds, from the tables in a folder.

    Raises:
        ValueError: a table is not there, or lacks a column.
    """
    binding, fitness = folder / FILES["tfbind8"], folder / FILES["gb1"]
    for path in (binding, fitness):
        if not path.is_file():
            raise ValueError(f"{path} is not there: --data takes the folder that holds {' and '.join(FILES.values())}.")
    width = {"width": 128, "steps": 3000}
    return (
        LabWorld("tfbind8", World(4, 8), lambda _: weak_half(e_scores(binding)), lambda _: e_scores(binding), **width),
        LabWorld("gb1", World(20, 4), lambda _: measured(fitness), lambda _: fitnesses(fitness), **width),
    )


@cache
def e_scores(path: Path) -> Law:
    """E-score of every 8-mer, scaled to [0, 1].

    Raises:
        ValueError: an 8-mer has none.
    """
    table = _table(path, "8-mer", "E-score", sep="\t")
    words = pd.concat([table["8-mer"], table["8-mer"].map(reverse_complement)])
    scores = _by_sequence(World(4, 8), BASES, words, pd.concat([table["E-score"]] * 2))
    if scores.isnan().any():
        raise ValueError(
            f"{path}: {int(scores.isnan().sum())} of the 65,536 8-mers have no E-score; take the whole table."
        )
    return (scores - scores.min()) / (scores.max() - scores.min())


@cache
def fitnesses(path: Path) -> Law:
    """Fitness over the largest; unmeasured variants have the lowest measured."""
    found = _gb1(path)
    return found.nan_to_num(float(found[~found.isnan()].min())) / found.nan_to_num(0.0).max()


def measured(path: Path) -> Law:
    """Uniform over the variants that were measured."""
    known = (~_gb1(path).isnan()).double()
    return known / known.sum()


def weak_half(reward: Law) -> Law:
    """Uniform over the half of the sequences with the least reward."""
    law = torch.zeros_like(reward)
    law[reward.argsort(stable=True)[: len(reward) // 2]] = 2 / len(reward)
    return law


def reverse_complement(word: str) -> str:
    return word[::-1].translate(str.maketrans("ACGT", "TGCA"))


def _gb1(path: Path) -> Law:
    table = _table(path, "Variants", "Fitness", sep=",")
    return _by_sequence(World(20, 4), RESIDUES, table["Variants"], table["Fitness"])


def _table(path: Path, words: str, numbers: str, sep: str) -> pd.DataFrame:
    table = pd.read_csv(path, sep=sep)
    missing = [name for name in (words, numbers) if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}, but {list(table)}: take the table as it was published.")
    return table


def _by_sequence(world: World, letters: str, words: pd.Series, numbers: pd.Series) -> Tensor:
    """A number per sequence of the world, NaN where the table has none."""
    tokens = torch.tensor([[letters.index(letter) for letter in word] for word in words])
    found = torch.full((len(world.sequences),), float("nan"), dtype=torch.double)
    found[world.index(tokens)] = torch.tensor(numbers.to_numpy(), dtype=torch.double)
    return found
