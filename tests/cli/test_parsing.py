"""Options, recipes and help: what is understood, and what a mistake is answered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from sepo.cli import main
from sepo.cli.errors import Answered, UsageError
from sepo.cli.grammar import Grammar, Group, in_words
from sepo.cli.parsing import group_of, parse


@dataclass
class Base:
    rate: float = 0.1
    rare: int = 0


@dataclass
class Options(Base):
    """All kinds of options.

    Args:
        steps: how many.
        flag: whether.
        name: what it is called.
        names: one or several.
        sizes: numbers.
        groups: names, of numbers too.
        table: keys and values.
    """

    steps: int | None = 3
    flag: bool = False
    name: str | None = None
    names: str | list[str] | None = None
    sizes: list[float] | None = None
    groups: list[str] | None = None
    table: str | dict[str, Any] | None = None


GRAMMAR = Grammar("try", "A try.", (group_of("Options", Options, ["rate"]),), ("RECIPE", "a file"))


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--steps", "5"], {"steps": 5}),
        (["--steps=5"], {"steps": 5}),
        (["--steps", "null"], {"steps": None}),
        (["--rate", "5e-4"], {"rate": 5e-4}),
        (["--rate", "-1"], {"rate": -1.0}),
        (["--flag"], {"flag": True}),
        (["--flag", "--steps", "1"], {"flag": True, "steps": 1}),
        (["--flag", "false"], {"flag": False}),
        (["--name", "7"], {"name": "7"}),
        (["--names", "a", "b"], {"names": ["a", "b"]}),
        (["--names", "file.py:f"], {"names": "file.py:f"}),
        (["--sizes", "1"], {"sizes": [1.0]}),
        (["--sizes", "1", "2"], {"sizes": [1.0, 2.0]}),
        (["--sizes", "[1, 2]"], {"sizes": [1.0, 2.0]}),
        (["--groups", "1", "2"], {"groups": ["1", "2"]}),
        (["--groups", "1"], {"groups": ["1"]}),
        (["--groups", "no", "1e3", "a, b"], {"groups": ["no", "1e3", "a, b"]}),
        (["--groups", '["1", "x"]'], {"groups": ["1", "x"]}),
        (["--groups", "null"], {"groups": None}),
        (["--table.a.b", "1", "--table.c", "x"], {"table": {"a": {"b": 1}, "c": "x"}}),
        (["--table", "{a: 1}"], {"table": {"a": 1}}),
        (["--table.k", "1", "--table", "digits"], {"table": {"class_path": "digits", "init_args": {"k": 1}}}),
    ],
)
def test_words_become_values_of_the_right_type(words, values):
    assert parse(GRAMMAR, words).values == values


def test_dashes_stand_for_underscores():
    grammar = Grammar("try", "", (Group("How", Dashed),))
    assert parse(grammar, ["--two-words", "1"]).values == {"two_words": 1}


@dataclass
class Dashed:
    two_words: int = 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--step", "1"],
            "--step: there is no such option; did you mean 'steps'? `sepo try --help` lists what there is.",
        ),
        (["--zzz", "1"], "--zzz: there is no such option; `sepo try --help` lists what there is."),
        (["--steps", "2.5"], "--steps 2.5: expected a whole number or null."),
        (["--rate", "fast"], "--rate fast: expected a number."),
        (["--sizes", "a"], "--sizes [a]: expected a list such as [1, 2] or null."),
        (["--flag", "false", "maybe"], "There is no recipe 'maybe': it is no file here, and none that is shipped; "),
        (["--steps"], "--steps needs a value: a whole number or null."),
        (["--table.a"], "--table.a needs a key and a value, such as --task.digit 7."),
        (["a.yaml", "b.yaml"], "'b.yaml' was not understood. Usage: sepo try [RECIPE] [--option value ...]"),
    ],
)
def test_a_mistake_is_answered_with_the_value_and_the_rule(words, message):
    with pytest.raises(ValueError) as raised:
        parse(GRAMMAR, words)
    assert str(raised.value).startswith(message)


def test_the_command_line_overrides_the_recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text("steps: 7\nrate: 1e-3\nname: x\n")
    given = parse(GRAMMAR, ["mine.yaml", "--steps", "8"])
    assert given.values == {"steps": 8, "rate": 1e-3, "name": "x"}
    assert given.name == "mine"


def test_keys_on_the_command_line_go_into_the_recipes_mapping(tmp_path):
    (tmp_path / "a.yaml").write_text("table: digits\n")
    (tmp_path / "b.yaml").write_text("table: {class_path: digits, init_args: {digit: 4}}\n")
    (tmp_path / "c.yaml").write_text("table: {r: 8}\n")
    asked = ["--table.levels", "2"]
    assert parse(GRAMMAR, ["a.yaml", *asked]).values["table"] == {"class_path": "digits", "init_args": {"levels": 2}}
    both = {"class_path": "digits", "init_args": {"digit": 4, "levels": 2}}
    assert parse(GRAMMAR, ["b.yaml", *asked]).values["table"] == both
    assert parse(GRAMMAR, ["c.yaml", *asked]).values["table"] == {"r": 8, "levels": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 1", "bad.yaml: stepz: there is no such option; did you mean 'steps'?"),
        ("steps: many", "bad.yaml: steps: 'many': expected a whole number or null."),
        ("name: 7", "bad.yaml: name: 7: expected text or null."),
        ("- a\n- b", "bad.yaml is not a recipe: it must hold lines of `option: value`."),
        ("a: [", "bad.yaml is not YAML: "),
    ],
)
def test_a_mistake_in_a_recipe_names_the_file(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError) as raised:
        parse(GRAMMAR, ["bad.yaml"])
    assert message in str(raised.value)


def test_help_shows_docstrings_defaults_and_leaves_the_rare_to_help_all(capsys):
    with pytest.raises(Answered):
        parse(GRAMMAR, ["--help"])
    short = capsys.readouterr().out
    assert "how many. (default: 3)" in short and "--rate X" in short and "all options: 1 more" in short
    assert "--rare" not in short
    with pytest.raises(Answered):
        parse(GRAMMAR, ["--help_all"])
    assert "--rare N" in capsys.readouterr().out


def test_a_resolved_recipe_holds_everything_but_the_rare_that_was_not_given():
    assert parse(GRAMMAR, []).resolved(Options()) == {
        name: value for name, value in vars(Options()).items() if name != "rare"
    }
    assert parse(GRAMMAR, ["--rare", "1"]).resolved(Options(rare=1))["rare"] == 1


def test_types_are_named_in_words():
    assert in_words(int | None) == "a whole number or null"
    assert in_words(bool | str) == "true or false or text"


@pytest.mark.parametrize("command", ["pretrain", "finetune", "sample", "evaluate", "report", "demo"])
def test_every_command_has_help_that_describes_every_option_of_ours(capsys, command):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: sepo {command}")
    blocks = shown.split("\n  --")[1:]
    assert blocks and all(len(block.split()) > 2 or "  " in block.strip() for block in blocks)


def test_all_130_options_of_transformers_are_a_word_away(capsys):
    assert main(["finetune", "--help"]) == 0
    assert "--weight_decay" not in capsys.readouterr().out
    assert main(["finetune", "--help_all"]) == 0
    assert "--weight_decay X" in capsys.readouterr().out


def test_print_config_prints_a_recipe_that_says_the_same(capsys, tmp_path):
    assert main(["finetune", "digits", "--beta", "0.3", "--weight_decay", "0.1", "--print_config"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "again.yaml").write_text(printed)
    assert main(["finetune", "again.yaml", "--print_config"]) == 0
    table = yaml.safe_load(printed)
    assert yaml.safe_load(capsys.readouterr().out) == table
    assert (table["beta"], table["weight_decay"], table["task"]) == (0.3, 0.1, "digits")


def test_an_unknown_option_has_the_exit_code_of_usage(capsys):
    assert main(["finetune", "--betta", "1"]) == 2
    assert "did you mean 'beta'?" in capsys.readouterr().err


def test_a_value_that_the_config_refuses_is_told(capsys):
    assert main(["finetune", "digits", "--weight", "heavy"]) == 1
    assert "weight='heavy': choose one of" in capsys.readouterr().err


def test_usage_errors_are_value_errors():
    assert issubclass(UsageError, ValueError)
