"""A small table in which the activity of a sequence is how often TA stands in it, with noise; three motifs."""

from __future__ import annotations

import random
from pathlib import Path

LENGTH = 20


def write_table(path: Path, rows: int = 600, groups: int = 6) -> Path:
    chance = random.Random(0)
    lines = ["id,seq,act,second,chrom"]
    for number in range(rows):
        sequence = "".join(chance.choice("ACGT") for _ in range(LENGTH))
        count = sequence.count("TA")
        second = count / 2 + chance.gauss(0, 0.1)
        lines.append(f"s{number},{sequence},{count + chance.gauss(0, 0.2):.4f},{second:.4f},c{number % groups}")
    lines += [f"n,{'N' * LENGTH},1,1,c1", "short,ACGT,1,1,c1", f"empty,{'A' * LENGTH},,1,c1"]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_motifs(path: Path, words: tuple[str, ...] = ("TATAA", "GCGCA", "CCATG")) -> Path:
    """Each word as a motif in the MEME format."""
    blocks = []
    for word in words:
        rows = [" ".join(f"{0.91 if letter == each else 0.03}" for each in "ACGT") for letter in word]
        blocks.append("\n".join([f"MOTIF {word}", f"letter-probability matrix: alength= 4 w= {len(word)}", *rows]))
    path.write_text("\n\n".join(["MEME version 4", *blocks]) + "\n")
    return path
