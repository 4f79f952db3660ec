"""sepo report: report.html again, from the plain files of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sepo.cli.errors import UsageError
from sepo.cli.grammar import Grammar, Group
from sepo.cli.parsing import parse


@dataclass(frozen=True)
class Report:
    """Which run.

    Args:
        run: the folder that a run wrote (its output_dir).
    """

    run: str | None = None


GRAMMAR = Grammar(
    "report",
    "Draw report.html again from the plain files of a run folder; nothing is computed anew.",
    (Group("Which run", Report),),
    ("RUN", "the folder that a run wrote (its output_dir)"),
)


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    folder = given.argument or given.made(Report).run
    if folder is None:
        raise UsageError(f"Which run? Usage: {GRAMMAR.usage}")
    from sepo.runs import rebuild_report

    print(rebuild_report(folder))
    return 0
