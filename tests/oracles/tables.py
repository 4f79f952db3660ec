"""A small table in which the activity of a sequence is how often TA stands in it, with noise."""

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
