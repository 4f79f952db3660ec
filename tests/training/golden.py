"""Golden trajectories: the first steps of every method, kept in golden.json so that no algorithm changes in silence.

    python -m tests.training.golden

renews the file: runs that no longer agree are replaced, new ones added, old ones dropped, and it prints which. That is
right after a change that was meant to move these numbers (a formula corrected, another default, chance drawn in another
order), if the claims of tests/objectives hold and only the runs moved that should have; the commit says why. It is
wrong as an answer to a failure that nobody has explained.

Two steps use the first collection, so that not every ratio is 1 and clips act; the third has its own. For numbers that
are the same on every machine networks are float64, rewards are eighths, whose means and squares float32 holds exactly,
and Adam's epsilon is above the rounding errors that it would make whole steps of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PrinterCallback

from sepo.diffusion.process import Uniform
from sepo.models.networks.positions import Learned
from sepo.objectives.algorithm import Algorithm
from sepo.objectives.algorithms import ALGORITHMS
from sepo.objectives.drakes import Drakes
from tests.training.toys import LETTERS, clues, lines, policy, trainer

FILE = Path(__file__).with_suffix(".json")
RENEW = "If this was meant, renew it with `python -m tests.training.golden`, whose docstring says when that is right."
RELATIVE, ABSOLUTE = 1e-4, 1e-6
LENGTH = 12
"""Above 8, or a path in 8 segments is a path in single steps."""

Track = dict[str, list[float | None]]
"""loss, grad_norm and reward, each step by step; None: nothing was collected in that step."""


def ones(completions: list[Any], **columns: Any) -> list[float]:
    """Ones in each array, in eighths."""
    return [float((completion == 1).sum()) / 8 for completion in completions]


def soft_ones(tokens: torch.Tensor) -> torch.Tensor:
    """The same with a gradient."""
    return tokens[..., 1].sum(-1) / 8


def constants(kind: type[Algorithm]) -> dict[str, Any]:
    """The defaults of a method's options."""
    return {option.name: option.default for option in fields(kind)}  # type: ignore[arg-type]


OPTIONS: dict[str, Any] = {
    "max_steps": 3,
    "num_iterations": 2,
    "per_device_train_batch_size": 16,
    "num_generations": 8,
    "states": 16,
    "adam_epsilon": 1e-6,
    "save_completions": False,
}

RUNS: dict[str, dict[str, Any]] = {
    "sepo": {},
    "sepo on a uniform process": {"process": Uniform(LETTERS), "sampling_steps": 6},
    "sepo with a critic": {"use_critic": True},
    **{name: {"algorithm": name} for name in ALGORITHMS},
    **{
        f"{name} with a KL": {"algorithm": name, "algorithm_kwargs": {"kl_coef": 0.1}}
        for name, kind in ALGORITHMS.items()
        if "kl_coef" in constants(kind)
    },
    "drakes": {"algorithm": Drakes(soft_ones), "sampling_steps": 6},
}
RUNS["elite_replay"]["prompts"] = False
RUNS["sepo with elites"] = {"prompts": False, "replay_kwargs": {"size": 4, "search": 4, "shift": 0.5}}
RUNS["sepo_released"]["learning_rate"] = 0.1  # its clip, one minimum of two means, acts after long steps only


def record(name: str) -> Track:
    """Makes one of RUNS."""
    options = OPTIONS | RUNS[name]
    process, prompted = options.pop("process", None), options.pop("prompts", True)
    of_process = {} if process is None else {"vocab_size": LETTERS, "time_conditioning": True}
    model = policy(process, position=Learned(LENGTH), **of_process)
    model.network.double()
    with TemporaryDirectory() as folder:
        run = trainer(Path(folder), model, ones, clues(length=LENGTH) if prompted else None, **options)
        run.remove_callback(PrinterCallback)
        run.train()
        steps = [line for line in lines(Path(folder)) if "loss" in line]
    return {each: [step.get(each) for step in steps] for each in ("loss", "grad_norm", "reward")}


def stored() -> dict[str, Track]:
    return json.loads(FILE.read_text()) if FILE.is_file() else {}


def differences(was: Track | None, now: Track) -> list[str]:
    """One line for each number that is not what it was."""
    if was is None:
        return ["there is no such run in the file"]
    return [
        f"{each} of step {step + 1} is {new}, was {old}"
        for each, values in now.items()
        for step, (new, old) in enumerate(zip(values, was[each], strict=True))
        if not _close(new, old)
    ]


def _close(new: float | None, old: float | None) -> bool:
    if new is None or old is None:
        return new is old
    return abs(new - old) <= ABSOLUTE + RELATIVE * abs(old)


def write(tracks: Mapping[str, Track]) -> None:
    """A line for each run, with 10 digits."""
    rounded = json.loads(json.dumps(tracks), parse_float=lambda number: float(f"{float(number):.10g}"))
    runs = (f"  {json.dumps(name)}: {json.dumps(track)}" for name, track in rounded.items())
    FILE.write_text("{\n" + ",\n".join(runs) + "\n}\n")


def main() -> None:
    torch.set_num_threads(1)
    before, after = stored(), {}
    for name in RUNS:
        now = record(name)
        wrong = differences(before.get(name), now)
        after[name] = now if wrong else before[name]
        print(f"{name}: {'; '.join(wrong) or 'as it was'}")
    for name in before.keys() - after.keys():
        print(f"{name}: dropped")
    write(after)


if __name__ == "__main__":
    main()
