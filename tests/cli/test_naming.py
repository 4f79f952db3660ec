"""Names of the user's own code."""

from __future__ import annotations

import sys

import pytest

from sepo.cli.naming import named, reward_named, task_named
from sepo.tasks import Digits
from tests.cli.conftest import TOY


def test_a_function_is_found_in_a_file_and_in_a_module(tmp_path):
    (tmp_path / "mine_named_here.py").write_text("def reward(**kwargs):\n    return 1\n")
    assert named(f"{TOY}:light").__name__ == "light"
    assert named("mine_named_here:reward")() == 1
    assert named("json.decoder:JSONDecoder").__name__ == "JSONDecoder"
    sys.modules.pop("mine_named_here")


def test_a_file_can_import_its_neighbours(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "neighbour_of_reward.py").write_text("WORTH = 5\n")
    (tmp_path / "parts" / "mine.py").write_text(
        "from neighbour_of_reward import WORTH\ndef reward(**kwargs):\n    return WORTH\n"
    )
    assert named("parts/mine.py:reward")() == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.py:f", "there is no file"),
        ("no_such_module:f", "there is no module 'no_such_module', neither here nor installed."),
        ("json:dumb", "there is no 'dumb' in json. Did you mean 'dump'?"),
        ("json", "names nothing: write package.module:name, or path/file.py:name."),
        (":f", "names nothing"),
        ("json:a-b", "names nothing"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name, message):
    with pytest.raises(ValueError) as raised:
        named(name)
    assert message in str(raised.value)


def test_a_file_that_raises_says_what(tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(ValueError, match=r"importing .*bad\.py raised ModuleNotFoundError: .*nothing_of_the_kind"):
        named("bad.py:f")
    (tmp_path / "worse.py").write_text("def (")
    with pytest.raises(ValueError, match="SyntaxError"):
        named("worse.py:f")
    (tmp_path / "bad_module_here.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(ValueError, match="bad_module_here imports 'nothing_of_the_kind', which is not installed"):
        named("bad_module_here:f")


def test_a_reward_model_stays_a_name():
    assert reward_named("some-org/some-model") == "some-org/some-model"


def test_a_file_without_a_function_asks_which(tmp_path):
    with pytest.raises(ValueError, match=r"toy\.py:my_reward"):
        reward_named(TOY)
    with pytest.raises(ValueError, match="is of type int; name a function"):
        reward_named(f"{TOY}:not_callable")


def test_a_task_is_found_by_name_by_class_and_with_options():
    assert task_named("digits") == Digits()
    assert task_named({"class_path": "digits", "init_args": {"digit": 7}}) == Digits(digit=7)
    assert task_named("sepo.tasks:Digits") == task_named("sepo.tasks.Digits") == Digits()
    toy = task_named({"class_path": f"{TOY}:Toy", "init_args": {"grey": 1}})
    assert vars(toy) == {"grey": 1, "prompted": False}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("digit", "There is no task 'digit'; did you mean 'digits'?"),
        (
            "zzz",
            "There is no task 'zzz'; there are digits, ehrlich, enhancer, sudoku, measured. One of your own is named "
            "package.module:Class.",
        ),
        ("json:dump", "task 'json:dump' is no subclass of sepo.tasks.Task"),
        ({"class_path": "digits", "init_args": {"digitt": 1}}, "has no option 'digitt'; did you mean 'digit'?"),
        ({"class_path": "digits", "init_args": {"digit": "x"}}, "task 'digits': digit: 'x': expected a whole number."),
        ({"class_path": "digits", "init_args": {"digit": 12}}, "digit=12: choose 0 to 9."),
        ({"name": "digits"}, "must have class_path"),
    ],
)
def test_a_task_that_is_none_says_why(asked, message):
    with pytest.raises(ValueError) as raised:
        task_named(asked)
    assert message in str(raised.value)
