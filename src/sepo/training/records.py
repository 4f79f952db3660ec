"""What a collection leaves in the run folder, and on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sepo.runs import Completions, RunFolder, print_completions, write_completions
from sepo.training.collector import Collected
from sepo.training.config import SEPOConfig


def completions_table(collected: Collected) -> Completions:
    """One row per sequence: prompt, completion, a column per reward, extras, advantage.

    Rewards that do not apply are None.
    """
    scores = collected.scores
    advantages = collected.credit.sequence_advantage.tolist()
    return Completions(0, collected.prompts, collected.completions, scores.by_name(), advantages, scores.extras)


def joined(parts: Sequence[Completions | None]) -> Completions | None:
    """What several processes hold of a collection, as one table; None if none of them holds anything."""
    held = [part for part in parts if part is not None]
    if len(held) < 2:
        return held[0] if held else None
    names = dict.fromkeys(name for part in held for name in part.extras)
    return Completions(
        step=held[0].step,
        prompts=[prompt for part in held for prompt in part.prompts],
        completions=[completion for part in held for completion in part.completions],
        rewards={name: [value for part in held for value in part.rewards[name]] for name in held[0].rewards},
        advantages=[advantage for part in held for advantage in part.advantages],
        extras={name: [each for part in held for each in part.extras.get(name, [None] * len(part))] for name in names},
    )


@dataclass(frozen=True)
class Showcase:
    """Where the collection of a log line is shown: parquet files, a table of `rows` rows on the screen.

    gather: the objects of all processes, in order of rank. main: whether this is the process that writes.
    """

    run: RunFolder
    saving: bool
    printing: bool
    rows: int | None
    main: bool
    gather: Callable[[list[Any]], list[Any]]

    @staticmethod
    def of(args: SEPOConfig, run: RunFolder, main: bool, gather: Callable[[list[Any]], list[Any]]) -> Showcase:
        """As the options say."""
        return Showcase(
            run, bool(args.save_completions), args.log_completions, args.num_completions_to_print, main, gather
        )

    def whole(self, mine: Completions | None) -> Completions | None:
        """The collection of all processes; None if it is not to be shown. To be called by all of them."""
        return joined(self.gather([mine])) if self.saving or self.printing else None

    def show(self, mine: Completions | None, step: int) -> None:
        """To be called by all processes."""
        table = self.whole(mine)
        if table is None or not self.main:
            return
        table = replace(table, step=step)
        if self.saving:
            write_completions(self.run, table)
        if self.printing:
            print_completions(table, self.rows)
