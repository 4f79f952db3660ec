"""The layout of the authors' archive at toy size: 20 letters, networks of a few hundred parameters."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.tasks.enhancer import FILES
from tests.oracles import fake_grelu

LENGTH = 20


def write_files(home: Path, rows: int = 200) -> Path:
    """Sequences whose activity is how often TA stands in them, a pretrained model, three oracles."""
    chance = random.Random(0)
    lines = ["seq,hepg2,k562,sknsh"]
    for _ in range(rows):
        sequence = "".join(chance.choice("ACGT") for _ in range(LENGTH))
        lines.append(f"{sequence},{sequence.count('TA') + chance.gauss(0, 0.2):.4f},0.1,0.2")
    table = home / FILES["table"]
    table.parent.mkdir(parents=True)
    table.write_text("\n".join(lines) + "\n")
    write_pretrained(home / FILES["pretrained"])
    for seed, name in enumerate(("reward", "judge")):
        fake_grelu.write_checkpoint(home / FILES[name], seed=seed)
    fake_grelu.write_checkpoint(home / FILES["open"], seed=2, tracks=7, trained=fake_grelu.BINARY)
    return home


def write_pretrained(path: Path) -> None:
    """As Lightning keeps it: names begin with backbone."""
    torch.manual_seed(0)
    network = DnaCnn(DnaCnnConfig(5, LENGTH, 8, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"backbone.{name}": each for name, each in network.state_dict().items()}
    described = {"config": {"model": {"length": LENGTH, "hidden_dim": 8}}}
    torch.save({"state_dict": state, "hyper_parameters": described, "pytorch-lightning_version": "2.1.0"}, path)
