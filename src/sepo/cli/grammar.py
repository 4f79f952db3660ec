"""The grammar of a command: its options are the fields of dataclasses, and their help is in the docstrings."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from sepo import recipes


@dataclass(frozen=True)
class Group:
    """The options that the fields of `kind` are.

    left_out: fields that are no options; rare: fields that only --help_all lists.
    """

    title: str
    kind: type
    left_out: frozenset[str] = frozenset()
    rare: frozenset[str] = frozenset()

    @cached_property
    def options(self) -> dict[str, Any]:
        """The type of each option."""
        hints = get_type_hints(self.kind)
        return {
            each.name: hints[each.name] for each in fields(self.kind) if each.init and each.name not in self.left_out
        }


@dataclass(frozen=True)
class Grammar:
    """argument: what may stand without a name (RECIPE, TABLE or RECIPE, MODEL), and its help; None: nothing may."""

    command: str
    summary: str
    groups: tuple[Group, ...]
    argument: tuple[str, str] | None = None
    epilog: str = ""

    @cached_property
    def options(self) -> dict[str, Any]:
        return {name: hint for group in self.groups for name, hint in group.options.items()}

    @property
    def usage(self) -> str:
        argument = f"[{self.argument[0]}] " if self.argument else ""
        return f"sepo {self.command} {argument}[--option value ...]"

    @property
    def takes_recipe(self) -> bool:
        return self.argument is not None and "RECIPE" in self.argument[0]

    def names_recipe(self, argument: str) -> bool:
        """Whether the argument is a recipe, where it may be something else too."""
        if not self.takes_recipe or self.argument is None:
            return False
        return self.argument[0] == "RECIPE" or recipes.is_recipe(argument, self.command)

    def parser(self, shown: Iterable[str] | None = None) -> ArgumentParser:
        """A parser of the options named `shown`; None: of all."""
        wanted = set(self.options if shown is None else shown)
        parser = ArgumentParser(
            prog=f"sepo {self.command}",
            usage=self.usage,
            description=self.summary,
            epilog=self.epilog,
            formatter_class=Layout,
            exit_on_error=False,
            add_help=False,
        )
        if self.argument is not None:
            name, text = self.argument
            parser.add_argument_group("Argument").add_argument("argument", metavar=name, help=text, nargs="?")
        for group in self.groups:
            here = wanted & group.options.keys()
            if here:
                skip = {each.name for each in fields(group.kind)} - here
                holder = parser.add_argument_group(group.title)
                holder.add_class_arguments(group.kind, None, as_group=False, skip=skip)  # type: ignore[attr-defined]
        return parser

    def help(self, everything: bool = False) -> str:
        """What --help shows; with `everything`, what --help_all does."""
        rare = frozenset() if everything else frozenset(name for group in self.groups for name in group.rare)
        parser = self.parser(self.options.keys() - rare)
        self._describe(parser)
        general = parser.add_argument_group("General")
        general.add_argument("--help", action="store_true", help="this text")
        if rare:
            general.add_argument(
                "--help_all", action="store_true", help=f"all options: {len(rare)} more, of transformers' Trainer"
            )
        if self.takes_recipe:
            general.add_argument("--print_config", action="store_true", help="print the resolved recipe and stop")
        general.add_argument("--debug", action="store_true", help="show the stack trace of an error")
        return parser.format_help()

    def _describe(self, parser: ArgumentParser) -> None:
        """Placeholders that say what kind of value an option takes, and a text where our docstrings have none."""
        texts = {name: text for group in self.groups for name, text in inherited_help(group.kind).items()}
        for action in parser._actions:
            if action.dest in self.options:
                first = members(self.options[action.dest])[0]
                action.metavar = _PLACEHOLDERS.get(get_origin(first) or first, "NAME")
                action.help = (
                    texts.get(action.dest, action.help) if not action.help or "%(" in action.help else action.help
                )


def in_words(hint: Any) -> str:
    """What a value of a type is, as in "expected a number"."""
    parts = [part for part in members(hint) if part is not NoneType]
    words = dict.fromkeys(_WORDS.get(get_origin(part) or part, "one of its names") for part in parts)
    return " or ".join([*words, *(["null"] if NoneType in members(hint) else [])])


def members(hint: Any) -> tuple[Any, ...]:
    """The types that a union joins; of any other type, itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def holds(hint: Any, kind: type) -> bool:
    """Whether a value of this type may be a `kind`."""
    return any((get_origin(part) or part) is kind for part in members(hint))


_WORDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    list: "a list such as [1, 2]",
    dict: "a mapping such as {name: value}",
}
_PLACEHOLDERS = {float: "X", int: "N", bool: "true|false", str: "TEXT", list: "[...]", dict: "{...}"}


def inherited_help(kind: type) -> dict[str, str]:
    """What transformers says of the fields that `kind` inherits from it."""
    texts = {}
    for base in reversed(kind.__mro__):
        for name, each in getattr(base, "__dataclass_fields__", {}).items():
            if "help" in each.metadata:
                texts[name] = " ".join(str(each.metadata["help"]).split()).replace("%%", " percent")
    return texts


class Layout(DefaultHelpFormatter):
    """`--name KIND`, the docstring, the default; lines as wide as the terminal, up to 110."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36, width=min(shutil.get_terminal_size((100, 24)).columns, 110))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return str(action.metavar)
        return action.option_strings[0] + (f" {action.metavar}" if action.nargs != 0 else "")

    def _get_help_string(self, action: argparse.Action) -> str:
        default = action.default
        if action.nargs == 0 or default in (None, "", argparse.SUPPRESS) or default == []:
            return action.help or ""
        shown = str(default).lower() if isinstance(default, bool) else default
        return f"{action.help or ''} (default: {shown})".strip()
