"""The shipped recipes: they are complete, consistent, and in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sepo import recipes
from sepo.cli import design, finetune, pretrain
from sepo.cli.design_options import Design
from sepo.cli.naming import task_named
from sepo.cli.parsing import parse
from sepo.tasks import TASKS
from sepo.tasks.enhancer import FILES

GRAMMARS = {"pretrain": pretrain, "finetune": finetune}
ALL = [(command, name) for command in GRAMMARS for name in recipes.shipped(command)]


WITH_RECIPES = {
    "digits": "digits",
    "ehrlich": "ehrlich",
    "enhancer_drakes": "enhancer",
    "sudoku": "sudoku",
}
"""The task of each recipe. Of `measured` `sepo design` writes the options, which needs a table."""


def test_every_task_has_a_recipe_for_both_commands():
    assert sorted(WITH_RECIPES.values()) == sorted(TASKS.keys() - {"measured"})
    for command in GRAMMARS:
        assert list(recipes.shipped(command)) == list(WITH_RECIPES)


@pytest.mark.parametrize(("command", "name"), ALL)
def test_a_shipped_recipe_is_understood_and_makes_its_options(command, name):
    given = parse(GRAMMARS[command].GRAMMAR, [name])
    what, args = GRAMMARS[command].options(given)
    assert type(task_named(what.task)) is TASKS[WITH_RECIPES[name]]
    assert args.max_steps > 0 and args.output_dir.startswith(f"runs/{name}")


@pytest.mark.parametrize(
    "name", ["terminators", "terminators_design", str(recipes.SHIPPED / "terminators_design.yaml")]
)
def test_a_recipe_for_designs_is_understood_where_a_table_may_stand(name):
    given = parse(design.GRAMMAR, [name, "--data", "mine.csv"])
    what = given.made(Design)
    assert (
        given.recipe and what.data == "mine.csv" and what.activity == "tobacco_log2" and what.finetune == {"beta": 0.1}
    )
    assert "terminators" in design.GRAMMAR.help() and list(recipes.shipped("design")) == ["terminators"]


def test_a_table_is_no_recipe_though_it_has_the_name_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("terminators").write_text("sequence,activity\n")
    given = parse(design.GRAMMAR, ["terminators"])
    assert not given.recipe and given.argument == "terminators"


@pytest.mark.parametrize("name", [name for name in WITH_RECIPES if name != "enhancer_drakes"])
def test_fine_tuning_starts_from_what_pretraining_leaves(name):
    base = recipes.read(name, "pretrain").options["output_dir"]
    assert recipes.read(name, "finetune").options["model"] == base


def test_the_enhancer_benchmark_begins_from_the_published_model():
    what = recipes.read("enhancer_drakes", "finetune").options
    assert what["model"] == str(Path(what["task"]["init_args"]["data"]) / FILES["pretrained"])


def test_a_recipe_of_ones_own_is_read_by_its_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("beta: 0.1\n")
    assert recipes.read(tmp_path / "mine.yaml", "finetune").options == {"beta": 0.1}
    (tmp_path / "empty.yaml").write_text("")
    assert recipes.read(tmp_path / "empty.yaml", "finetune").options == {}


def test_a_recipe_that_is_not_there_names_the_nearest():
    with pytest.raises(ValueError, match=r"no recipe 'digit': .* did you mean 'digits'\?"):
        recipes.read("digit", "finetune")
    with pytest.raises(ValueError, match=r"shipped are digits, ehrlich, enhancer_drakes, sudoku\."):
        recipes.read("qqq", "finetune")


@pytest.mark.slow
def test_the_wheel_holds_the_recipes_and_the_style_of_the_report(tmp_path):
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*build, str(root)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("sepo-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"sepo/recipes/{path.name}" for path in recipes.SHIPPED.glob("*.yaml")} <= set(names)
    assert "sepo/runs/page.css" in names and "sepo/py.typed" in names
