"""The networks of an oracle of `sepo design`: each is saved once it is fitted, so that a stop costs one of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sepo.cli.console import progress, say
from sepo.oracles import Ensemble, Fit, Measurements, fit, save_oracle
from sepo.oracles.saved import FOLDER, Made, load_member, made_of, save_member

FITTING = "fitting"
"""Inside the oracle's folder: members of an ensemble that is not complete, which nothing reads as an oracle."""


@dataclass(frozen=True, eq=False)
class Members:
    """The networks of one oracle. name: what it is for; data: what they are fitted to, and `mark`, what tells that from
    any other; device: where, which decides nothing of what is kept.
    """

    name: str
    folder: Path
    data: Measurements
    mark: str
    hows: Sequence[Fit]
    device: str = "cpu"

    def fitted(self) -> tuple[Ensemble, list[Made]]:
        """Those that were fitted so before are opened, the others fitted, saved where nothing counts as complete."""
        found = [self._place_of(number) for number in range(len(self.hows))]
        lacking = [number for number, place in enumerate(found) if place is None]
        kept = f"; {len(found) - len(lacking)} of {len(found)} networks are kept" if len(lacking) < len(found) else ""
        say(f"Fitting the oracle {self.name} to {len(self.data)} sequences{kept}")
        self._fit(lacking)
        places = [place or self._unfinished(number) for number, place in enumerate(found)]
        made = [made_of(place) for place in places]
        ensemble = Ensemble([load_member(place) for place in places]).to(self.device)
        return ensemble, [each for each in made if each is not None]

    def save(self, ensemble: Ensemble, made: Sequence[Made]) -> None:
        """As a whole, in place of what the folder held."""
        save_oracle(ensemble, self.folder, made)

    def clear(self) -> None:
        """Removes what was saved on the way."""
        shutil.rmtree(self.folder / FITTING, ignore_errors=True)

    def _unfinished(self, number: int) -> Path:
        return self.folder / FITTING / FOLDER.format(number)

    def _place_of(self, number: int) -> Path | None:
        """Where this member lies, if it was fitted before with these settings to these data."""
        for place in (self._unfinished(number), self.folder / FOLDER.format(number)):
            made = made_of(place)
            if made is not None and (made.fit, made.data) == (settings_of(self.hows[number]), self.mark):
                return place
        return None

    def _fit(self, lacking: Sequence[int]) -> None:
        """With a bar over all of their epochs."""
        with progress(f"  oracle {self.name}", sum(self.hows[number].epochs for number in lacking)) as told:
            news, before = "", 0
            for number in lacking:

                def after(epoch: int, found: float, number: int = number) -> None:
                    nonlocal news
                    of = f"network {number + 1}/{len(self.hows)}"
                    news = f"{of}, correlation {found:.3f} with its own held-back tenth"

                def along(epochs: float, before: int = before) -> None:
                    told(before + epochs, news)

                how, started = self.hows[number], time.monotonic()
                member = fit(self.data, how, after, along, self.device)
                made = Made(settings_of(how), self.mark, round(time.monotonic() - started, 2))
                save_member(member, self._unfinished(number), made)
                before += how.epochs


def settings_of(how: Fit) -> dict[str, Any]:
    """All that decides a member, with the learning rate that is used."""
    return asdict(replace(how, lr=how.rate))
