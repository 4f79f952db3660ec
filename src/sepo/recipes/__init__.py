"""Recipes: YAML files of options, one per experiment; those of the shipped tasks are found by their bare name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).parent
SUFFIXES = ("pretrain", "design")
"""Commands whose recipes say so at the end of their name; the others are of `finetune`."""


@dataclass(frozen=True)
class Recipe:
    """name: of the file, without its ending; source: what messages call it; options: as they stand in the file."""

    name: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


def shipped(command: str) -> dict[str, Path]:
    """The recipes for a command that come with the library, by bare name: a file ends in `_pretrain` or `_design` where
    it is for that command.
    """
    found = {}
    for path in sorted(SHIPPED.glob("*.yaml")):
        name, _, last = path.stem.rpartition("_")
        of, bare = (last, name) if last in SUFFIXES else ("finetune", path.stem)
        if command == of:
            found[bare] = path
    return found


def is_recipe(name: str, command: str) -> bool:
    """Whether a name that may also be that of a table is one of a recipe."""
    path = Path(name)
    return path.suffix in (".yaml", ".yml") or (_bare(name, command) in shipped(command) and not path.exists())


def _bare(name: str | Path, command: str) -> str:
    return str(name).removesuffix(f"_{command}") if command in SUFFIXES else str(name)


def read(name: str | Path, command: str) -> Recipe:
    """A recipe by its path, or by the bare name of one that is shipped for the command.

    Raises:
        ValueError: there is none, or it is not a YAML mapping of option names to values.
    """
    known = shipped(command)
    path = known.get(_bare(name, command), Path(name))
    if not path.is_file():
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"shipped are {', '.join(known) or 'none'}."
        raise ValueError(f"There is no recipe {str(name)!r}: it is no file here, and none that is shipped; {hint}")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    options = {} if options is None else options
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise ValueError(f"{path} is not a recipe: it must hold lines of `option: value`.")
    return Recipe(path.stem, str(name), options)
