"""Which checkpoint of a run is the last good one, and how one is written so that a kill or a full disk is noticed.

transformers writes `trainer_state.json` last. A folder without a readable one was being written when the run died: it
is passed over. `run.json` names the run, so that the checkpoints of an earlier run in the same folder are not resumed
by mistake.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from sepo.diffusion.denoiser import Denoiser
from sepo.models import save_pretrained
from sepo.runs import RunFolder, resume_run, start_run
from sepo.runs.plain import write_text

STATE, RUN = "trainer_state.json", "run.json"


def checkpoint_folder(output_dir: str | Path, step: int) -> Path:
    return Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was written.

    Raises:
        ValueError: its trainer_state.json is missing or damaged.
    """
    try:
        return int(json.loads((checkpoint / STATE).read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{checkpoint} is not a complete checkpoint: its {STATE} is missing or damaged, so the run ended while it "
            "was written. Resume from another one, or give True for the last complete one."
        ) from error


def is_complete(checkpoint: Path) -> bool:
    """Whether the folder was written to its end."""
    try:
        step_of(checkpoint)
    except ValueError:
        return False
    return True


def last_complete(output_dir: str | Path) -> Path | None:
    """The complete checkpoint with the highest step of the run that was begun last in the folder, None without one."""
    root = Path(output_dir)
    numbered = [(path.name.rpartition("-")[2], path) for path in root.glob(f"{PREFIX_CHECKPOINT_DIR}-*")]
    steps = sorted(((int(number), path) for number, path in numbered if number.isdigit()), reverse=True)
    name = _read(root / RUN)
    for _, path in steps:
        if is_complete(path) and (name is None or _read(path / RUN) == name):
            return path
    return None


def asked_for(resume: str | Path | bool | None, output_dir: str | Path) -> Path | None:
    """The checkpoint that `resume_from_checkpoint` means; None to begin anew.

    Raises:
        ValueError: there is none, or it is not complete.
    """
    if resume is None or resume is False:
        return None
    if resume is True:
        found = last_complete(output_dir)
        if found is None:
            raise ValueError(f"There is no complete checkpoint in {output_dir} to resume from; train without resuming.")
        return found
    found = Path(resume)
    if not found.is_dir():
        raise ValueError(
            f"resume_from_checkpoint={str(resume)!r} is not a folder; give a checkpoint-N folder, or True for the last."
        )
    step_of(found)
    return found


def open_folder(run: RunFolder, checkpoint: Path | None, settings: Mapping[str, Any]) -> None:
    """Begins a run, with a name of its own, or makes the folder what it was at a checkpoint. Main process only."""
    if checkpoint is None:
        start_run(run.path, settings)
        (run.path / RUN).write_text(json.dumps({"run": secrets.token_hex(8)}))
        return
    if not run.is_run:
        start_run(run.path, settings)
    resume_run(run, step_of(checkpoint))
    _drop_summary(run)
    if _read(checkpoint / RUN) not in (None, _read(run.path / RUN)):
        shutil.copyfile(checkpoint / RUN, run.path / RUN)


def _drop_summary(run: RunFolder) -> None:
    """The line with which a run that was stopped, or was finished, ended: the resumed run ends with its own."""
    lines = run.metrics.read_text(encoding="utf-8").splitlines(keepends=True) if run.metrics.is_file() else []
    if lines and "train_runtime" in json.loads(lines[-1]):
        write_text(run.metrics, "".join(lines[:-1]))


def write_model(policy: Denoiser, folder: str | Path, tokenizer: Any, args: TrainingArguments) -> None:
    """The network with its card, the tokenizer and the arguments."""
    save_pretrained(policy, folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    torch.save(args, Path(folder) / TRAINING_ARGS_NAME)


def sign(checkpoint: Path) -> None:
    """Marks a checkpoint as one of the run in its parent folder."""
    run = checkpoint.parent / RUN
    if run.is_file():
        shutil.copyfile(run, checkpoint / RUN)


@contextmanager
def writing(checkpoint: Path, main: bool) -> Iterator[None]:
    """Around the writing of a checkpoint: one of the same name counts as incomplete from the first byte on.

    Raises:
        OSError: it could not be written. What there is of it is removed, to make room.
    """
    try:
        if main:
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / STATE).unlink(missing_ok=True)
            sign(checkpoint)
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_of_the_disk(error):
            raise
        if main and not is_complete(checkpoint):
            shutil.rmtree(checkpoint, ignore_errors=True)
        last = last_complete(checkpoint.parent)
        remedy = "there is no earlier one" if last is None else f"the last complete one is {last}"
        raise OSError(
            f"{checkpoint} could not be written ({_root(error)}); {remedy}. Free some space, or lower "
            "save_total_limit, and resume."
        ) from error


def _root(error: BaseException) -> str:
    """What the operating system said in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip()


def _is_of_the_disk(error: RuntimeError) -> bool:
    """torch.save says so in C++: its zip writer lost bytes."""
    return any(word in str(error) for word in ("inline_container", "PytorchStreamWriter"))


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
