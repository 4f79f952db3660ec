"""A table to try `sepo design` with: sequences whose activity is a known function of motifs, and noise.

    python examples/measured_table.py table.csv
    sepo design table.csv --activity activity --second second --group family --output runs/try

5,000 sequences of 60 letters of 10 families: copies of an ancestor with a share of their letters drawn anew, into which
motifs were planted. Two activators raise the activity, more where they are near the end, a repressor lowers it; the
second assay sees one activator only. `--motifs motifs.meme`, which is written beside the table, counts them in designs.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

LENGTH = 60
FAMILIES = 10
ACTIVATORS = {"TGACTCA": 1.0, "CACGTGA": 0.7}
REPRESSOR, LOST = "TTAATTAA", 1.0
PLANTED = 0.4
"""Chance that a motif is planted in a sequence, each by itself."""
DIFFERENT = 0.5
"""Share of the letters in which a sequence differs from its ancestor, and a quarter of them not after all."""
NOISE = 0.2


def activity(sequence: str) -> float:
    """Without noise: what an oracle should find."""
    raised = sum(worth * places(sequence, motif) for motif, worth in ACTIVATORS.items())
    return raised - LOST * sequence.count(REPRESSOR)


def places(sequence: str, motif: str) -> float:
    """Each copy counts 0.5 at the beginning of the sequence, 1.5 at its end."""
    starts = [start for start in range(LENGTH - len(motif) + 1) if sequence.startswith(motif, start)]
    return sum(0.5 + start / (LENGTH - len(motif)) for start in starts)


def planted(ancestor: str, chance: random.Random) -> str:
    letters = [chance.choice("ACGT") if chance.random() < DIFFERENT else letter for letter in ancestor]
    for motif in (*ACTIVATORS, REPRESSOR):
        if chance.random() < PLANTED:
            start = chance.randrange(LENGTH - len(motif) + 1)
            letters[start : start + len(motif)] = motif
    return "".join(letters)


def write_table(path: Path, rows: int = 5000, seed: int = 0) -> None:
    """rows: sequences, of every family as many, or nearly."""
    chance = random.Random(seed)
    ancestors = ["".join(chance.choice("ACGT") for _ in range(LENGTH)) for _ in range(FAMILIES)]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sequence", "activity", "second", "family"])
        for number in range(rows):
            family = number % FAMILIES
            sequence = planted(ancestors[family], chance)
            measured = activity(sequence) + chance.gauss(0, NOISE)
            second = places(sequence, next(iter(ACTIVATORS))) + chance.gauss(0, NOISE)
            writer.writerow([sequence, f"{measured:.4f}", f"{second:.4f}", f"family_{family}"])


def write_motifs(path: Path) -> None:
    """In the MEME format, every letter almost certain."""
    blocks = ["MEME version 4"]
    for motif in (*ACTIVATORS, REPRESSOR):
        rows = [" ".join("0.97" if letter == each else "0.01" for each in "ACGT") for letter in motif]
        blocks.append("\n".join([f"MOTIF {motif}", f"letter-probability matrix: alength= 4 w= {len(motif)}", *rows]))
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def main(path: str = "table.csv", rows: int = 5000) -> None:
    write_table(Path(path), rows)
    write_motifs(Path(path).with_name("motifs.meme"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
