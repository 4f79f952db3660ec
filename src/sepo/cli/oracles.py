"""The oracles' stage of `sepo design`: who is fitted to what, and how well each knows what it has not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from torch import Tensor

from sepo.cli.console import say
from sepo.cli.design_options import Design
from sepo.oracles import Ensemble, Fit, Measurements, Split, fit, save_oracle, split_by_group
from sepo.oracles.fitting import correlation

QUALITY = "quality.json"
SEEDS = {"reward": 0, "judge": 1000, "other": 2000}
ARCHITECTURE = {"reward": "motifs", "judge": "dilated", "other": "motifs"}


@dataclass(frozen=True)
class Quality:
    """Pearson correlation of an oracle with measurement: on groups that no oracle was fitted to, and on the other's.

    sequences: it was fitted to; settings: with which.
    """

    sequences: int
    unseen: float
    settings: Mapping[str, Any]


def fit_oracles(asked: Design, measured: Measurements) -> dict[str, Quality]:
    """Fits those that are not there yet: reward and judge, and with a second assay other, on the judge's groups."""
    split = split_by_group(measured.groups, asked.reward_groups, asked.judge_groups, asked.unseen_groups)
    names = ("reward", "judge", "other") if asked.second is not None else ("reward", "judge")
    return {name: _fitted(name, asked, measured, split) for name in names}


def _fitted(name: str, asked: Design, measured: Measurements, split: Split) -> Quality:
    folder = asked.folder / "oracles" / name
    rows = split.reward if name == "reward" else split.judge
    hows = [
        Fit(ARCHITECTURE[name], epochs=asked.epochs, seed=asked.seed + SEEDS[name] + member)
        for member in range(asked.members)
    ]
    settings = {"fits": [asdict(how) for how in hows], "data": _mark(measured, rows, name)}
    if (folder / QUALITY).is_file():
        found = json.loads((folder / QUALITY).read_text(encoding="utf-8"))
        if found["settings"] == settings:
            return Quality(**found)
    data, unseen = measured.chosen(rows), measured.chosen(split.unseen)
    if name == "other":
        data, unseen = _of_second(data), _of_second(unseen)
    say(f"Fitting the oracle {name} to {len(data)} sequences")
    members = [fit(data, how, _progress(number, len(hows))) for number, how in enumerate(hows)]
    ensemble = Ensemble(members)
    save_oracle(ensemble, folder)
    quality = Quality(len(data), correlation(ensemble(unseen.tokens), unseen.activity), settings)
    (folder / QUALITY).write_text(json.dumps(asdict(quality), indent=1) + "\n", encoding="utf-8")
    say(f"  correlation {quality.unseen:.3f} with {len(unseen)} sequences of groups that no oracle has seen")
    return quality


def _mark(measured: Measurements, rows: Tensor, name: str) -> str:
    """What tells these sequences and numbers from any others."""
    numbers = measured.second if name == "other" and measured.second is not None else measured.activity
    parts = (measured.alphabet.letters.encode(), measured.tokens[rows], numbers[rows], rows)
    digest = sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _of_second(measured: Measurements) -> Measurements:
    assert measured.second is not None
    return replace(measured, activity=measured.second, second=None)


def _progress(number: int, members: int):
    def told(epoch: int, found: float) -> None:
        say(
            f"  network {number + 1}/{members}, epoch {epoch + 1}: correlation {found:.3f} with its own held-back tenth"
        )

    return told
