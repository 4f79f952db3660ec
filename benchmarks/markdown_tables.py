"""Tables of measurements as Markdown, printed or put into the marked blocks of a page."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Tables = Mapping[str, Callable[[], str]]
"""By the name of their block."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replaced(page: str, name: str, content: str) -> str:
    """The page with the block of this name filled anew; a page without it stays."""
    block = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- / -->)", re.DOTALL)
    return block.sub(lambda found: f"{found[1]}{content}\n{found[2]}", page)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--into", type=Path, help="a page with marked blocks")
    parser.add_argument("--only", nargs="+", help="some of the tables, by name")


def show(tables: Tables, options: argparse.Namespace) -> None:
    """As the options of `add_options` say."""
    unknown = sorted(set(options.only or ()) - set(tables))
    if unknown:
        raise SystemExit(f"--only {unknown[0]!r}: there is no such table; choose from {', '.join(map(repr, tables))}.")
    for name, made in tables.items():
        if options.only and name not in options.only:
            continue
        if options.into is None:
            print(f"\n{name}\n\n{made()}")
        else:
            options.into.write_text(replaced(options.into.read_text(), name, made()))
