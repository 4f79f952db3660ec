"""What can happen to a run from outside: a full disk, a kill, Ctrl-C, other sizes, numbers that are not finite.

A full disk is a limit on the size of files, a kill is SIGKILL, and both meet a process of their own.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bad_input_runs import Row, ones, run, told
from transformers import TrainerCallback

from sepo import load
from sepo.training.checkpoint import last_complete


def in_a_process(action: Callable[[], str]) -> str:
    """What `action` told or raised in a child; what ended the child, if it did not come to an end."""
    receiving, sending = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            sending.send(told(action))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    if receiving.poll():
        return receiving.recv()
    return f"the process ended by {signal.Signals(-(child.exitcode or 0)).name}"


def full_disk(folder: Path) -> str:
    run(folder, save_strategy="steps", save_steps=2, max_steps=2).train()

    def work() -> str:
        again = run(folder, save_strategy="steps", save_steps=2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
        again.train(resume_from_checkpoint=True)
        return "nothing"

    ended = in_a_process(work)
    load(folder / "checkpoint-2")
    again = run(folder, save_strategy="steps", save_steps=2)
    again.train(resume_from_checkpoint=True)
    return f"{ended} Resumed with room: step {again.state.global_step} is reached"


def killed_while_saving(folder: Path) -> str:
    save = torch.save

    def torn(value: Any, path: Any, *others: Any, **options: Any) -> None:
        save(value, path, *others, **options)
        if "checkpoint-4" in str(path):
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> str:
        torch.save = torn
        run(folder, save_strategy="steps", save_steps=2).train()
        return "nothing"

    ended = in_a_process(work)
    assert ended == "the process ended by SIGKILL" and (folder / "checkpoint-4").is_dir()
    found = last_complete(folder)
    assert found is not None
    load(found)
    again = run(folder)
    again.train(resume_from_checkpoint=True)
    return (
        "`checkpoint-4` has no `trainer_state.json` and is passed over: `resume_from_checkpoint=True` finds "
        f"`{found.name}`, and `sepo.load` opens it"
    )


def other_sizes(folder: Path) -> str:
    run(folder, save_strategy="steps", save_steps=4).train()
    run(folder, per_device_train_batch_size=4).train(resume_from_checkpoint=True)
    return "nothing"


def pressed(times: int) -> Callable[[Path], str]:
    def provoke(folder: Path) -> str:
        asked: list[int] = []

        def judge(completions: Sequence[Any], **columns: Any) -> list[float]:
            asked.append(1)
            for _ in range(times if len(asked) == 2 else 0):
                os.kill(os.getpid(), signal.SIGINT)
            return ones(completions)

        trainer = run(folder, judge)
        trainer.train()
        found = last_complete(folder)
        assert found is not None
        return f"the run ends after the step in progress (2 of 4), with `{found.name}`, from which it can be resumed"

    return provoke


class Poison(TrainerCallback):
    """Makes a gradient NaN before the second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        model.head.weight.register_hook(lambda gradient: gradient * torch.nan)


def not_finite(options: Row, largest: float = 1.0) -> Callable[[Path], str]:
    def provoke(folder: Path) -> str:
        def judge(completions: Sequence[Any], **columns: Any) -> list[float]:
            return [largest * value for value in ones(completions)]

        run(folder, judge, **options).train()
        return "nothing"

    return provoke
