"""The oracles' stage of `sepo design`: who is fitted to what, and how well each knows what it has not seen."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.markup import escape
from torch import Tensor

from sepo.cli.asking import ask
from sepo.cli.console import say, seconds
from sepo.cli.design_options import Design
from sepo.cli.marks import QUALITY, marks_of
from sepo.cli.oracle_members import Members, settings_of
from sepo.oracles import (
    Ensemble,
    Fit,
    Measurements,
    Oracle,
    Split,
    load_oracle,
    names_function,
    oracle_named,
    split_by_group,
)
from sepo.oracles.fitting import LEAST_FITTED, LEAST_HELD, correlation
from sepo.oracles.saved import members_in
from sepo.runs.plain import numbers_back, read_json, write_json
from sepo.tasks.base import device_for

SEEDS = {"reward": 0, "judge": 1000, "other": 2000}
ARCHITECTURE = {"reward": "motifs", "judge": "dilated", "other": "motifs"}
LEAST = 50
"""Sequences of which oracles can be fitted and tested at all: shared out 40 : 40 : 20, no part is then too small."""
LEAST_TESTED = 10
"""Sequences that an oracle which was fitted here is tested on at least."""
SEEDS_OF_A_RUN = 10_000
"""So many for each --seed, so that no two of them have a network in common."""
WEAK = 0.3
"""Correlation below which an oracle is warned of."""
_CONSEQUENCE = {
    "reward": "designs will be made for what this oracle imagines. Measure more sequences, or bring an oracle.",
    "judge": "what it says of the designs means little. Measure more sequences, or bring an oracle.",
    "other": "what it says of the second assay means little.",
}
ASKED = 1000
"""Sequences at most that an oracle from outside is tested on."""


@dataclass(frozen=True)
class Quality:
    """Pearson correlation of an oracle with measurement on groups that no oracle was fitted to; None: nothing was
    measured that it could be compared with; NaN: it did not answer with numbers.

    sequences: it was fitted to, 0 of one from outside; settings: with which; seconds: that took; tested: sequences
    that the correlation is of.
    """

    sequences: int
    unseen: float | None
    settings: Mapping[str, Any]
    seconds: float | None = None
    tested: int | None = None

    @property
    def worth(self) -> str | None:
        """What there is to say of it where it knows little."""
        if self.unseen is None or self.unseen >= WEAK:
            return None
        if math.isnan(self.unseen):
            return "The oracle is broken: its answers are no numbers"
        return f"That is weak (below {WEAK})"


def fit_oracles(asked: Design, measured: Measurements) -> dict[str, Quality]:
    """Fits those that are not there yet: reward and judge, and with a second assay other, on the judge's groups.
    Those from outside are tested.

    Raises:
        ValueError: a part of the groups has too few sequences.
    """
    split, names = split_of(asked, measured), _names(asked)
    found = {name: _tested(name, asked, measured, split) for name in names if name in asked.outside}  # mistakes first
    found |= {name: _fitted(name, asked, measured, split) for name in names if name not in found}
    return {name: found[name] for name in names}


def _names(asked: Design) -> tuple[str, ...]:
    return ("reward", "judge", *(("other",) if asked.second is not None or "other" in asked.outside else ()))


def split_of(asked: Design, measured: Measurements) -> Split:
    """Who may see what of the table. It does not depend on the seed: runs that differ in it are judged alike."""
    named = (asked.reward_groups, asked.judge_groups, asked.unseen_groups)
    reward, judge, unseen = (None if each is None else [str(group) for group in each] for each in named)
    return split_by_group(measured.groups, reward, judge, unseen)


def require_enough(asked: Design, measured: Measurements) -> None:
    """Before anything is fitted: a part with a handful of sequences gives an oracle of nothing.

    Raises:
        ValueError: there are too few.
    """
    fitted = [name for name in ("reward", "judge") if name not in asked.outside]
    if fitted and len(measured) < LEAST:
        rows = ", ".join(map(str, measured.rows[:LEAST].tolist()))
        odd = "".join(f"\n  {each}" for each in measured.findings)
        raise ValueError(
            f"{asked.data}: only {len(measured)} sequences can be used ({measured.findings[0].unit if odd else 'row'}s "
            f"{rows}), and {LEAST} are the least of which the oracles {' and '.join(fitted)} can be fitted and tested. "
            f"Give a larger table, or oracles of your own with --reward_oracle and --judge_oracle.{odd}"
        )
    known = len(measured) if measured.second is None else int(measured.second.isfinite().sum())
    if known < LEAST and asked.second is not None and "other" not in asked.outside:
        raise ValueError(
            f"second={asked.second!r}: only {known} of the {len(measured)} sequences were measured in it, and {LEAST} "
            "are the least of which its oracle can be fitted and tested. Leave it out, or bring one with "
            "--second_oracle."
        )
    split = split_of(asked, measured)
    for name in _names(asked):
        if name not in asked.outside:
            _parts(name, measured, split)


def _parts(name: str, measured: Measurements, split: Split) -> tuple[Tensor, Tensor]:
    """The rows that an oracle is fitted to, and those that it is tested on.

    Raises:
        ValueError: these or those are too few.
    """
    measured, part = _about(name, measured), "reward" if name == "reward" else "judge"
    fitted = _known(measured, getattr(split, part), name, part, LEAST_FITTED)
    return fitted, _known(measured, split.unseen, name, "unseen", LEAST_TESTED)


def _fitted(name: str, asked: Design, measured: Measurements, split: Split) -> Quality:
    folder = asked.folder / "oracles" / name
    rows, tested = _parts(name, measured, split)
    measured = _about(name, measured)
    seed = SEEDS_OF_A_RUN * asked.seed + SEEDS[name]
    hows = [Fit.sized(len(rows), ARCHITECTURE[name], asked.epochs, seed + member) for member in range(asked.members)]
    settings = {"fits": [settings_of(how) for how in hows], "data": _mark(measured, rows)}
    settings["tested"] = _mark(measured, tested)
    data, unseen = measured.chosen(rows), measured.chosen(tested)
    kept = _kept(folder, settings, but="tested") if len(members_in(folder)) == len(hows) else None
    if kept is not None and kept.settings == settings:
        return _warned(name, replace(kept, tested=len(tested)))
    if kept is not None:
        say(f"Testing the oracle {name} on other sequences than before; its networks are kept")
        found = _agreement(load_oracle(folder, device=device_for(asked.device)), unseen)
        return _told(folder, name, replace(kept, unseen=found, settings=settings, tested=len(tested)))
    members = Members(name, folder, data, settings["data"], hows, device_for(asked.device))
    ensemble, made = members.fitted()
    (folder / QUALITY).unlink(missing_ok=True)  # what it says is of the networks that are now replaced
    members.save(ensemble, made)
    took = round(sum(each.seconds for each in made), 1)
    quality = _told(folder, name, Quality(len(data), _agreement(ensemble, unseen), settings, took, len(unseen)))
    members.clear()
    return quality


def _tested(name: str, asked: Design, measured: Measurements, split: Split) -> Quality:
    """Of an oracle from outside: how it agrees with measurement, where something was measured."""
    folder, named = asked.folder / "oracles" / name, asked.outside[name]
    comparable = name != "other" or measured.second is not None
    measured = _about(name, measured)
    rows = _known(measured, split.unseen, name, "unseen", 2)
    rows = rows[:: max(-(-len(rows) // ASKED), 1)]
    settings = {"named": named, "files": marks_of(named), "data": _mark(measured, rows)}
    if names_function(named) and not settings["files"]:
        say(
            f"  [yellow]{escape(named)}: no source file of it was found, so that a change of it is not noticed: delete "
            f"{escape(str(folder))} and what rests on it after one.[/]"
        )
    kept, tested = _kept(folder, settings), len(rows) if comparable else None
    if kept is not None:
        return _warned(name, replace(kept, tested=tested))
    unseen = measured.chosen(rows)
    say(f"Testing the oracle {name}, {named}, on {len(unseen)} sequences")
    started = time.monotonic()
    oracle = oracle_named(named, measured.alphabet.letters, asked.oracle_timeout, device=device_for(asked.device))
    found = _agreement(oracle, unseen) if comparable else None
    folder.mkdir(parents=True, exist_ok=True)
    return _told(folder, name, Quality(0, found, settings, round(time.monotonic() - started, 1), tested))


def _agreement(oracle: Oracle, measured: Measurements) -> float:
    said = oracle(measured.tokens) if isinstance(oracle, Ensemble) else ask("testing", oracle, measured.tokens)
    return correlation(said, measured.activity)


def _kept(folder: Path, settings: Mapping[str, Any], but: str | None = None) -> Quality | None:
    """What was found before with these settings; but: one that may differ, or not have been noted."""
    if not (folder / QUALITY).is_file():
        return None
    found = Quality(**numbers_back(read_json(folder / QUALITY)))
    before, now = ({key: each for key, each in of.items() if key != but} for of in (found.settings, settings))
    return found if before == now else None


def _told(folder: Path, name: str, quality: Quality) -> Quality:
    write_json(folder / QUALITY, quality)
    took = f", {seconds(quality.seconds)}" if quality.seconds is not None else ""
    if quality.unseen is not None:
        said = "of groups that no oracle was fitted to" if quality.sequences else "that others were not fitted to"
        say(f"  correlation {quality.unseen:.3f} with {quality.tested} sequences {said}{took}")
        if quality.worth is not None:
            say(f"  [yellow]{quality.worth}: {escape(_CONSEQUENCE[name])}[/]")
    return quality


def _warned(name: str, kept: Quality) -> Quality:
    """What was kept; that it is worth little is said again."""
    if kept.worth is not None:
        found = f"correlation {kept.unseen:.3f} with {kept.tested} sequences"
        say(f"  [yellow]The oracle {name} is kept, {found}. {kept.worth}: {escape(_CONSEQUENCE[name])}[/]")
    return kept


def _mark(measured: Measurements, rows: Tensor) -> str:
    """What tells these sequences and numbers from any others."""
    parts = (measured.alphabet.letters.encode(), measured.tokens[rows], measured.activity[rows], rows)
    digest = sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _about(name: str, measured: Measurements) -> Measurements:
    """The table as an oracle is concerned with it: `other` with the second assay, if there is one."""
    if name != "other" or measured.second is None:
        return measured
    return replace(measured, activity=measured.second, second=None)


def _known(measured: Measurements, rows: Tensor, name: str, part: str, least: int) -> Tensor:
    """Those that were measured.

    Raises:
        ValueError: they are fewer than `least`.
    """
    known = rows[measured.activity[rows].isfinite()]
    if len(known) >= least:
        return known
    does = "tested on" if part == "unseen" else f"fitted to, {LEAST_HELD} of them held back to stop it"
    rule = f"{least} are the least that an oracle is {does}"
    if len(known) < len(rows):
        raise ValueError(
            f"The oracle {name!r}: only {len(known)} of the {len(rows)} sequences in the part {part!r} were measured "
            f"in the second assay, and {rule}. Share the groups out otherwise (--reward_groups, --judge_groups, "
            "--unseen_groups), or leave out --second."
        )
    raise ValueError(
        f"The oracle {name!r}: the part {part!r} has only {len(known)} sequences, and {rule}. Share the groups out "
        "otherwise (--reward_groups, --judge_groups, --unseen_groups), give a larger table, or bring an oracle "
        f"(--{'second' if name == 'other' else name}_oracle)."
    )
