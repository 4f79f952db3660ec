"""Parsing: a recipe and the words of a command line, checked against a grammar, as one table of what was given."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

import yaml

from sepo import recipes
from sepo.cli.errors import Answered, UsageError
from sepo.cli.grammar import Grammar, Group, holds, in_words, members
from sepo.recipes import Recipe
from sepo.runs.plain import plain

T = TypeVar("T")
Words = list[str]


@dataclass(frozen=True)
class Given:
    """What was asked for: the values that a recipe or the command line gives, and nothing that they leave open."""

    grammar: Grammar
    values: dict[str, Any] = field(default_factory=dict)
    argument: str | None = None
    print_config: bool = False
    recipe: str = ""

    @property
    def name(self) -> str:
        """Of the recipe, else of the command."""
        return self.recipe or self.grammar.command

    def made(self, kind: type[T], **more: Any) -> T:
        """An object of one of the grammar's dataclasses; `more` stands where nothing was given."""
        group = next(group for group in self.grammar.groups if group.kind is kind)
        here = {name: value for name, value in self.values.items() if name in group.options}
        return kind(**{**more, **here})

    def resolved(self, *objects: Any) -> dict[str, Any]:
        """A recipe that repeats this in full: all options but the rare ones, and of these what was given."""
        table: dict[str, Any] = {}
        for group, made in zip(self.grammar.groups, objects, strict=True):
            for name in group.options:
                if name != "resume" and (name not in group.rare or name in self.values):
                    table[name] = getattr(made, name)
        return table


def parse(grammar: Grammar, words: Sequence[str]) -> Given:
    """
    Raises:
        Answered: --help or --help_all was asked for, and printed.
        UsageError: an option that there is not, or a value of the wrong type.
    """
    if {"-h", "--help", "--help_all"} & set(words):
        print(grammar.help("--help_all" in words))
        raise Answered
    asked = [word for word in words if word != "--print_config"]
    argument, spoken, keys = _split(grammar, asked)
    recipe = (
        recipes.read(argument, grammar.command)
        if argument is not None and grammar.names_recipe(argument)
        else Recipe("", "")
    )
    for name in recipe.options:
        _known(grammar, name, f"{recipe.source}: {name}")
    parser = grammar.parser()
    values = {}
    for name, value in recipe.options.items():
        values[name] = _checked(
            parser.parse_object, {name: value}, grammar, name, f"{recipe.source}: {name}: {value!r}"
        )
    for name, behind in spoken.items():
        word = _one_word(grammar, name, behind)
        values[name] = _checked(parser.parse_args, [f"--{name}={word}"], grammar, name, f"--{name} {word}".rstrip())
    for name, table in keys.items():
        values[name] = _nested(values.get(name), table)
    return Given(grammar, values, argument, len(asked) < len(words), recipe.name)


def _split(grammar: Grammar, words: Words) -> tuple[str | None, dict[str, Words], dict[str, dict[str, Any]]]:
    """The argument, the words behind each option, and the table of what `--option.key value` say of one."""
    arguments: list[str] = []
    spoken: dict[str, Words] = {}
    keys: dict[str, dict[str, Any]] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--"):
            arguments.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name, dot, key = name.partition(".")
        name = name.replace("-", "_")
        _known(grammar, name, word.partition("=")[0])
        behind = [value] if equals else []
        several = holds(grammar.options[name], list) and not dot
        while not equals and position < len(words) and not words[position].startswith("--"):
            if (behind and not several) or (not behind and _is_switch(grammar.options[name], words[position])):
                break
            behind.append(words[position])
            position += 1
        if dot:
            _insert(keys.setdefault(name, {}), key, behind, word)
        else:
            spoken[name] = behind
    allowed = 1 if grammar.argument else 0
    if len(arguments) > allowed:
        raise UsageError(f"{arguments[allowed]!r} was not understood. Usage: {grammar.usage}")
    return (arguments[0] if arguments else None), spoken, keys


def _is_switch(hint: Any, following: str) -> bool:
    """Whether an option of this type stands alone: true or false, and what follows is neither."""
    return hint is bool and following.lower() not in ("true", "false", "yes", "no")


def _insert(table: dict[str, Any], key: str, behind: Words, word: str) -> None:
    if not behind or not key:
        raise UsageError(f"{word} needs a key and a value, such as --task.digit 7.")
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
    table[last] = yaml.safe_load(behind[0])


def _nested(before: Any, keys: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says of an option, with the keys of the command line in it: those of a class are its init_args."""
    if isinstance(before, str):
        before = {"class_path": before}
    if isinstance(before, Mapping) and "class_path" in before:
        return {**before, "init_args": {**before.get("init_args", {}), **keys}}
    return {**(before if isinstance(before, Mapping) else {}), **keys}


def _one_word(grammar: Grammar, name: str, behind: Words) -> str:
    hint = grammar.options[name]
    if not behind:
        if holds(hint, bool):
            return "true"
        raise UsageError(f"--{name} needs a value: {in_words(hint)}.")
    if len(behind) == 1:
        bare_list = holds(hint, list) and not holds(hint, str) and behind[0] != "null" and behind[0][:1] != "["
        if not bare_list:
            return behind[0]
    of_text = any(holds(get_args(part)[0], str) for part in members(hint) if get_origin(part) is list)
    return f"[{', '.join(map(json.dumps, behind) if of_text else behind)}]"


def _known(grammar: Grammar, name: str, said: str) -> None:
    if name in grammar.options:
        return
    near = difflib.get_close_matches(name, grammar.options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"{said}: there is no such option; {hint}`sepo {grammar.command} --help` lists what there is.")


def _checked(parse: Any, asked: Any, grammar: Grammar, name: str, said: str) -> Any:
    try:
        return parse(asked, defaults=False)[name]
    except (argparse.ArgumentError, TypeError, ValueError, KeyError):
        raise UsageError(f"{said}: expected {in_words(grammar.options[name])}.") from None


def print_recipe(table: Mapping[str, Any]) -> None:
    """A resolved recipe as YAML on stdout."""
    print(yaml.safe_dump(plain(table, "recipe"), sort_keys=False, allow_unicode=True), end="")


def group_of(title: str, kind: type, shown: Iterable[str], left_out: Iterable[str] = ()) -> Group:
    """A group of a dataclass that derives from another: of what it inherits, only what `shown` names is not rare."""
    inherited = frozenset(name for base in kind.__mro__[1:] for name in getattr(base, "__dataclass_fields__", {}))
    return Group(title, kind, frozenset(left_out), inherited - frozenset(shown))
