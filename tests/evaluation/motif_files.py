"""Small files of motifs."""

from __future__ import annotations

import random
from pathlib import Path

JASPAR = """\
>TST0001.1\tTATA
A  [ 0 20  1 19 ]
C  [ 1  0  0  0 ]
G  [ 1  0  1  1 ]
T  [18  0 18  0 ]
>TST0002.1\tGC
A  [ 0  0  1  5  0 ]
C  [ 9  1  8  5  9 ]
G  [ 1  9  1  0  1 ]
T  [ 0  0  0  0  0 ]
>TST0003.1\tlong
A  [ 3  0  7  1  1  2 ]
C  [ 3 10  1  1  9  2 ]
G  [ 2  0  1  7  0  3 ]
T  [ 2  0  1  1  0  3 ]
"""
MEME = """\
MEME version 4

ALPHABET= ACGT

strands: + -

MOTIF TST1 one
letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 0
 0.333 0.667 0.000 0.000
 0.950 0.000 0.050 0.000
 0.000 1.000 0.000 0.000
URL http://example.org

MOTIF TST2
letter-probability matrix: alength= 4 w= 2 nsites= 24 E= 0
 0.125000 0.330000 0.083000 0.462000
 0.000000 0.000000 1.000000 0.000000
"""


def write_jaspar(path: Path) -> Path:
    path.write_text(JASPAR)
    return path


def write_many(path: Path, number: int = 80, width: int = 6) -> Path:
    """Motifs of some clear word each, so many that some of them stand in a few short sequences."""
    chance = random.Random(0)
    lines = []
    for motif in range(number):
        word = [chance.randrange(4) for _ in range(width)]
        lines.append(f">TST{motif:04d}.1\tword{motif}")
        for letter, name in enumerate("ACGT"):
            counts = [17 if letter == each else 1 for each in word]
            lines.append(f"{name}  [ {' '.join(map(str, counts))} ]")
    path.write_text("\n".join(lines) + "\n")
    return path
