"""The front door: help, version, exit codes, and how an error is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sepo
from sepo import __version__, cli
from sepo.cli import COMMANDS, main
from sepo.cli.errors import told
from tests.cli.conftest import TOY


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sepo {__version__}\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_command(capsys, words):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_help_and_version_do_not_wait_for_torch():
    script = (
        "import sys, sepo.cli; sepo.cli.main(['--help']); sepo.cli.main(['--version']); print(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "numpy", "jsonargparse", "yaml"} & set(loaded)


def test_the_package_imports_its_public_names_when_they_are_asked_for():
    script = "import sys, sepo; print('torch' in sys.modules, dir(sepo))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"False {sorted(sepo.__all__)}\n"
    assert all(getattr(sepo, name) is not None for name in sepo.__all__)


def test_the_package_says_what_it_has_when_asked_for_something_else():
    with pytest.raises(AttributeError, match=r"no attribute 'Trainer'; it has .*SEPOTrainer"):
        sepo.Trainer  # noqa: B018


def test_the_module_runs_as_a_script():
    done = subprocess.run([sys.executable, "-m", "sepo", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"sepo {__version__}\n")


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["finetun"]) == 2
    assert capsys.readouterr().err == "sepo: 'finetun' is no command. Did you mean 'finetune'?\n"


def test_a_users_mistake_is_told_without_a_stack_trace(capsys):
    assert main(["report", "nowhere"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("sepo: nowhere is not a run: there is no such folder.")
    assert "Traceback" not in shown


def test_debug_shows_the_stack_trace():
    with pytest.raises(ValueError, match="nowhere is not a run"):
        main(["report", "nowhere", "--debug"])


def test_a_bug_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cli, "_command", lambda name: _raises(KeyError("x")))
    with pytest.raises(KeyError):
        main(["report"])


def test_ctrl_c_has_its_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_command", lambda name: _raises(KeyboardInterrupt()))
    assert main(["report"]) == 130
    assert "Interrupted." in capsys.readouterr().err


def test_an_error_in_the_users_code_comes_with_its_line():
    try:
        try:
            exec(compile("def reward():\n    return 1 / 0\nreward()", TOY, "exec"), {})
        except ZeroDivisionError as error:
            raise ValueError("The reward raised.") from error
    except ValueError as error:
        message = told(error)
    assert message is not None
    assert message.startswith("The reward raised.\n") and f"{TOY}, line 2, in reward" in message


def test_running_out_of_memory_names_the_remedy():
    message = told(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert message is not None and "smaller per_device_train_batch_size" in message


def test_a_missing_integration_of_transformers_is_told():
    assert told(RuntimeError("TensorBoardCallback requires tensorboard to be installed.")) is not None
    assert told(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_a_broken_import_of_ours_is_not_told_as_a_users_mistake():
    assert told(ImportError("no module", name="sepo.gone")) is None
    assert told(ImportError("the digits need scikit-learn")) == "the digits need scikit-learn"


def _raises(error):
    def run(words):
        raise error

    return run
