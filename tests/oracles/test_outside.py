"""Oracles from outside: commands, functions, checkpoints of gReLU, and the names by which options ask for them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch.nn import functional

from sepo.oracles import (
    Ensemble,
    Fit,
    FromCommand,
    FromFunction,
    LightningOracle,
    fit,
    load_lightning,
    names_command,
    oracle_named,
    read_measurements,
    same_oracle,
    save_oracle,
)
from sepo.oracles.naming import checkpoint_named
from tests.oracles import fake_grelu
from tests.oracles.tables import write_table

TOKENS = torch.tensor([[0, 0, 3, 1], [1, 2, 3, 3], [0, 0, 0, 0]])
COUNT_A = """\
import sys
text = open(sys.argv[1]).read() if len(sys.argv) > 1 else sys.stdin.read()
for record in text.split(">")[1:]:
    print("".join(record.splitlines()[1:]).count("A"))
"""


def command(tmp_path: Path, code: str, *more: str, timeout: float | int | None = 60) -> FromCommand:
    path = tmp_path / "program.py"
    path.write_text(code)
    return FromCommand((sys.executable, str(path), *more), "ACGT", timeout)


@pytest.mark.parametrize("more", [(), ("{fasta}",)])
def test_a_command_reads_fasta_from_standard_input_or_a_file(tmp_path, more) -> None:
    assert command(tmp_path, COUNT_A, *more)(TOKENS).tolist() == [2, 0, 4]


def test_sequences_longer_than_a_line_arrive_whole(tmp_path) -> None:
    assert command(tmp_path, COUNT_A)(torch.zeros(2, 500, dtype=torch.long)).tolist() == [500, 500]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print(1)\nprint(2)", "gave 2 numbers for 3 sequences: it must give one for each"),
        ("print(1)\nprint('high')\nprint(3)", "gave 'high' for sequence 2 of 3: it must give a finite number"),
        ("print(1)\nprint('nan')\nprint(3)", "gave 'nan' for sequence 2 of 3"),
        ("print(1)\n\nprint()\nprint(3)", "gave '' for sequence 2 of 3"),
        ("import sys\nprint(1)\nsys.exit('no licence')", "ended with code 1 and said: no licence"),
    ],
)
def test_a_command_that_fails_is_told(tmp_path, code, told) -> None:
    with pytest.raises(ValueError, match=rf"The program '.*' {told}"):
        command(tmp_path, code)(TOKENS)


def alive(word: str) -> bool:
    """Whether a process that is no zombie has the word in its command line."""
    running = psutil.process_iter(["cmdline", "status"])
    return any(word in (each.info["cmdline"] or []) and each.info["status"] != psutil.STATUS_ZOMBIE for each in running)


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path) -> None:
    mark = f"{time.time():.6f}"
    code = f"import subprocess, time\nsubprocess.Popen(['sleep', '{mark}'])\ntime.sleep(60)"
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"took longer than 1 s and was ended: allow more \(--oracle_timeout\)"):
        command(tmp_path, code, timeout=1)(TOKENS)
    assert time.monotonic() - started < 20
    waited = time.monotonic()
    while alive(mark) and time.monotonic() - waited < 10:
        time.sleep(0.1)
    assert not alive(mark)


def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match=r"'nowhere' cannot be started: No such file"):
        FromCommand(("nowhere",), "ACGT")(TOKENS)
    with pytest.raises(ValueError, match="No closing quotation"):
        FromCommand.parsed("python 'open", "ACGT")
    with pytest.raises(ValueError, match=r"command=\(\)"):
        FromCommand.parsed("", "ACGT")
    with pytest.raises(ValueError, match="timeout=0"):
        FromCommand(("x",), "ACGT", 0)


def test_a_function_that_fails_is_told_by_its_name() -> None:
    def broken(words: list[str]) -> list[float]:
        raise KeyError(words[0])

    with pytest.raises(ValueError, match=r"The oracle 'broken' raised KeyError: 'AATC'"):
        FromFunction(broken, "ACGT", "broken")(TOKENS)
    with pytest.raises(ValueError, match=r"returned 1\.0: it must return a list of numbers"):
        FromFunction(lambda words: 1.0, "ACGT")(TOKENS)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match=r"gave inf for sequence 1 of 3"):
        FromFunction(lambda words: [float("inf")] * 3, "ACGT")(TOKENS)


def test_names_lead_to_oracles(tmp_path, monkeypatch) -> None:
    (tmp_path / "counting_letters.py").write_text(
        "def count(words):\n    return [word.count('A') for word in words]\n\nNOTHING = 3\n"
    )
    (tmp_path / "program.py").write_text(COUNT_A)
    for name in (f"{tmp_path}/counting_letters.py:count", f"{sys.executable} {tmp_path}/program.py {{fasta}}"):
        assert oracle_named(name, "ACGT")(TOKENS).tolist() == [2, 0, 4]
    monkeypatch.chdir(tmp_path)
    assert oracle_named("counting_letters:count", "ACGT")(TOKENS).tolist() == [2, 0, 4]
    with pytest.raises(ValueError, match=r"of type int; name a function of a list of sequences"):
        oracle_named("counting_letters.py:NOTHING", "ACGT")
    with pytest.raises(ValueError, match=r"'nothing' names no oracle: give package.module:function"):
        oracle_named("nothing", "ACGT")
    with pytest.raises(ValueError, match=r"reads the letters ACGT, but the sequences are of ACGU"):
        oracle_named("some.ckpt:1", "ACGU")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("mine.py:f", "./mine.py:f", True),
        ("mine.py:f", "mine:f", True),
        ("mine.py:f", "mine.py:g", False),
        ("link.py:f", "mine.py:f", True),
        ("oracle.ckpt", "oracle.ckpt:0", True),
        ("here/../oracle.ckpt:1", "oracle.ckpt:01", True),
        ("oracle.ckpt:1", "oracle.ckpt", False),
        ("here", "./here/", True),
        ("here", "mine.py", False),
        ("python mine.py {fasta}", "python   ./mine.py '{fasta}'", True),
        ("python mine.py {fasta}", "python mine.py", False),
        ("python 'mine.py", "python mine.py", False),
        ("nowhere:f", "nowhere:f", True),
    ],
)
def test_one_oracle_is_known_by_all_of_its_names(tmp_path, monkeypatch, first, second, same) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # of another test, another file
    (tmp_path / "mine.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "link.py").symlink_to("mine.py")
    (tmp_path / "here").mkdir()
    assert same_oracle(first, second) == same_oracle(second, first) == same


def test_a_folder_of_oracles_is_an_oracle(tmp_path) -> None:
    table = write_table(tmp_path / "table.csv", rows=60)
    measured = read_measurements(str(table), sequence="seq", activity="act")
    members = [fit(measured, Fit(hidden_size=4, epochs=1, seed=seed)) for seed in (0, 1)]
    save_oracle(Ensemble(members), tmp_path / "folder")
    doubting = oracle_named(str(tmp_path / "folder"), "ACGT", doubt=1.0)
    assert isinstance(doubting, Ensemble) and doubting.doubt == 1.0


def test_a_checkpoint_of_grelu_answers_as_its_network(tmp_path, monkeypatch) -> None:
    fake_grelu.installed(monkeypatch)
    network = fake_grelu.write_checkpoint(tmp_path / "oracle.ckpt")
    oracle = oracle_named(f"{tmp_path}/oracle.ckpt:1", "ACGT")
    assert isinstance(oracle, LightningOracle)
    onehot = functional.one_hot(TOKENS, 4).float()
    expected = network(onehot.transpose(1, 2)).squeeze(2).detach()
    torch.testing.assert_close(oracle.tracks(TOKENS), expected)
    torch.testing.assert_close(oracle(TOKENS), expected[:, 1])
    soft = onehot.requires_grad_()
    (gradient,) = torch.autograd.grad(oracle.soft(soft).sum(), soft)
    assert float(gradient.abs().max()) > 0


def test_the_activation_is_that_of_its_training(tmp_path, monkeypatch) -> None:
    fake_grelu.installed(monkeypatch)
    network = fake_grelu.write_checkpoint(tmp_path / "atac.ckpt", tracks=7, trained=fake_grelu.BINARY)
    logits = network(functional.one_hot(TOKENS, 4).float().transpose(1, 2)).squeeze(2).detach()
    torch.testing.assert_close(load_lightning(tmp_path / "atac.ckpt").tracks(TOKENS), logits.sigmoid())
    fake_grelu.write_checkpoint(tmp_path / "odd.ckpt", trained={"task": "regression", "loss": "hinge"})
    with pytest.raises(ValueError, match=r"loss='hinge' is none of mse, poisson"):
        load_lightning(tmp_path / "odd.ckpt")


def test_what_is_wrong_with_a_checkpoint_of_grelu_is_named(tmp_path, monkeypatch) -> None:
    fake_grelu.write_checkpoint(tmp_path / "oracle.ckpt")
    monkeypatch.setitem(sys.modules, "grelu", None)
    with pytest.raises(ValueError, match=r"needs the package gReLU, .* pip install 'sepo\[grelu\]'"):
        load_lightning(tmp_path / "oracle.ckpt")
    fake_grelu.installed(monkeypatch)
    with pytest.raises(ValueError, match="column 3 is none of the model's 3"):
        load_lightning(tmp_path / "oracle.ckpt", 3)
    fake_grelu.write_checkpoint(tmp_path / "strange.ckpt", model_type="Strange")
    with pytest.raises(ValueError, match="'Strange', which the installed gReLU does not know"):
        load_lightning(tmp_path / "strange.ckpt")
    fake_grelu.write_checkpoint(tmp_path / "long.ckpt", final_pool_func=None)
    with pytest.raises(ValueError, match=r"answers with the shape \[3, 3, 4\]"):
        load_lightning(tmp_path / "long.ckpt")(TOKENS)
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of gReLU: it has no hyper_parameters"):
        load_lightning(tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match=r"nowhere.ckpt is not there"):
        load_lightning(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize(
    ("name", "checkpoint", "command"),
    [
        ("a.ckpt", ("a.ckpt", 0), False),
        ("folder/a.ckpt:12", ("folder/a.ckpt", 12), False),
        ("python s.py --weights m.ckpt", None, True),
        ("python s.py --weights m.ckpt:1", None, True),
        ("a folder/a.ckpt", ("a folder/a.ckpt", 0), False),
        ("mine.py:count", None, False),
        ("program", None, True),
    ],
)
def test_a_command_that_ends_in_a_checkpoint_is_a_command(tmp_path, monkeypatch, name, checkpoint, command) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a folder").mkdir()
    Path("a folder/a.ckpt").write_text("")
    assert (checkpoint_named(name), names_command(name)) == (checkpoint, command)
