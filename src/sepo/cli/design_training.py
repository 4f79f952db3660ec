"""The trainings of `sepo design`: a generator of all sequences, its fine-tuning to the most active (SFT), and SEPO.

Each is a command of its own in a folder of its own. It is kept where it is complete with the same settings and rests on
the same files, goes on where it was stopped with these, and begins anew else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sepo.cli import finetune, pretrain
from sepo.cli.console import say, stopped
from sepo.cli.design_generator import generator_of
from sepo.cli.design_options import Design
from sepo.cli.design_words import in_words
from sepo.cli.grammar import Grammar
from sepo.cli.marks import BEFORE, RESTS_ON, files_of, marks, marks_of
from sepo.cli.oracles import split_of
from sepo.cli.parsing import Given, parse
from sepo.diffusion.process import Absorbing
from sepo.oracles.saved import MEMBERS
from sepo.runs import RunFolder, read_config, write_summary
from sepo.runs.plain import plain, read_json, write_json, write_text
from sepo.samplers.guided import UNREWARDED
from sepo.tasks import Measured
from sepo.training.checkpoint import last_complete

COLUMNS = ("alphabet", "sequence", "activity", "second", "group", "cluster", "hidden_size", "stacks", "doubt", "device")
"""Options that the task has too."""
OF_THE_GENERATOR = ("alphabet", "sequence", "activity", "hidden_size", "stacks")
"""Of these, what it depends on."""
OUTSIDE = ("reward_oracle", "judge_oracle", "second_oracle")
PASSES, LEAST_STEPS, MOST_STEPS = 40, 500, 4000
"""Over the table, of pretraining, within bounds."""
PRETRAIN = {
    "per_device_train_batch_size": 128,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 100,
    "ema": 0.999,
    "logging_steps": 100,
    "save_steps": 250,
}
SFT_PASSES, LEAST_SFT, MOST_SFT = 10, 100, 400
"""Over the most active sequences, of SFT, and bounds of its steps."""
LEAST_ROWS = 10
MOST_ACTIVE = "most_active.jsonl"
SFT = {
    "per_device_train_batch_size": 64,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "ema": 0.99,
    "logging_steps": 50,
    "save_steps": 100,
}
FINETUNE = {
    "max_steps": 240,
    "num_iterations": 4,
    "per_device_train_batch_size": 32,
    "reading": "merged",
    "states": 8,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "sampling_steps": 32,
    "beta": 0.03,
    "scale_rewards": "batch",
    "logging_steps": 8,
    "save_steps": 40,
}
"""60 collections of 32, each used four times: "sepo 0.03, merged" in benchmarks/terminators.py."""
OF_SEPO = ("reading", "states", "beta", "scale_rewards")
"""Of these, what other algorithms have defaults of their own for, or nothing of the kind."""


def task_of(what: Design) -> Measured:
    return Measured(data=str(what.data), oracles=str(what.folder / "oracles"), motifs=what.motifs, **_columns(what))


def _columns(what: Design) -> dict[str, Any]:
    """Options of the task that were given here."""
    given = {name: getattr(what, name) for name in (*COLUMNS, *OUTSIDE)}
    return {**given, "oracle_timeout": what.oracle_timeout} if what.outside else given


def pretrained(what: Design) -> bool:
    """Whether there is a generator now."""
    if what.generator is not None:
        return True
    given = what.pretrain or {}
    named = [file for name in ("model", "dataset", "eval_dataset") for file in files_of(given.get(name))]
    rests_on = marks([Path(str(what.data)), *named])
    return _trained(PRETRAINING, what.folder / "generator", pretraining_words(what), rests_on)


def pretraining_words(what: Design) -> list[str]:
    options = {**PRETRAIN, **(what.pretrain or {})}
    if options.get("max_steps") is None:
        options["max_steps"] = pretraining_steps(what)
    task = {"data": what.data, **{name: getattr(what, name) for name in OF_THE_GENERATOR}}
    return [*_task_words(task), *in_words({**options, "output_dir": what.folder / "generator", "seed": what.seed})]


def _loading(what: Design, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """How the generator is loaded; given: options of this stage, which come before those of all."""
    options = {**what.generator_options, **(given or {})}
    return {"model_init_kwargs": options} if options else {}


def pretraining_steps(what: Design) -> int:
    """So many that the table is read 40 times, but 500 to 4,000: a small one would be learned by heart."""
    steps = _steps_of(PASSES * len(task_of(what).measured), {**PRETRAIN, **(what.pretrain or {})})
    return min(max(steps, LEAST_STEPS), MOST_STEPS)


def _steps_of(sequences: int, options: Mapping[str, Any]) -> int:
    """Optimizer steps that take so many sequences."""
    return sequences // (
        int(options["per_device_train_batch_size"]) * int(options.get("gradient_accumulation_steps") or 1)
    )


def supervised(what: Design) -> bool:
    """Whether a copy of the generator is fine-tuned to the most active sequences now, if it is to be."""
    if what.sft is None:
        return True
    dataset, held_out = what.folder / MOST_ACTIVE, (what.sft_kwargs or {}).get("eval_dataset")
    write_text(dataset, "".join(json.dumps({"tokens": row}) + "\n" for row in most_active(what)))
    rests_on = marks([dataset, *files_of(what.base), *files_of(held_out)])
    return _trained(PRETRAINING, what.folder / "sft", supervised_words(what), rests_on)


def supervised_words(what: Design) -> list[str]:
    folder, options = what.folder, {**SFT, **(what.sft_kwargs or {})}
    if options.get("max_steps") is None:
        steps = _steps_of(SFT_PASSES * len(most_active(what)), options)
        options["max_steps"] = min(max(steps, LEAST_SFT), MOST_SFT)
    options |= {"model": what.base, "dataset": folder / MOST_ACTIVE, "output_dir": folder / "sft", "seed": what.seed}
    return in_words(options | _loading(what, (what.sft_kwargs or {}).get("model_init_kwargs")))


def most_active(what: Design) -> list[list[int]]:
    """Tokens of the reward's share of the table with the highest activity: nothing of the judge's groups or the unseen.

    Raises:
        ValueError: they are too few to learn from.
    """
    assert what.sft is not None
    measured = task_of(what).measured
    known = measured.chosen(split_of(what, measured).reward)
    number = int(what.sft * len(known))
    if number < LEAST_ROWS:
        raise ValueError(
            f"sft={what.sft}: of the reward's {len(known)} sequences these are {number}, and {LEAST_ROWS} are the "
            "least that say what the most active have in common; name a larger share, or leave it out."
        )
    return known.tokens[known.activity.topk(number).indices].tolist()


def finetuned(what: Design) -> bool:
    """Whether the generator is fine-tuned with SEPO now."""
    options = finetuning_options(what)
    oracles = [
        path
        for path in sorted((what.folder / "oracles").glob(f"*/{MEMBERS}/*.safetensors"))
        if path.parent.parent.name not in what.outside
    ]
    guided_by = options.get("rollout_guidance_kwargs") or {}
    named = [what.base, what.start, guided_by.get("value"), guided_by.get("unconditional")]
    named += [options.get(name) for name in ("reference", "dataset", "eval_dataset")]
    rests_on = marks([Path(str(what.data)), *oracles, *(file for name in named for file in files_of(name))])
    rewards = options.get("reward") or []
    for named in (*what.outside.values(), *([rewards] if isinstance(rewards, str) else rewards)):
        rests_on |= marks_of(named) | marks(files_of(named))
    return _trained(FINETUNING, what.folder / "tuned", finetuning_words(what), rests_on)


def finetuning_options(what: Design) -> dict[str, Any]:
    """What was given, and FINETUNE where that leaves it open. The reading is of masks that are filled once, which a
    generator or a sampler of the user's own need not do.
    """
    given, left_out = what.finetune or {}, ()
    if given.get("algorithm", "sepo") != "sepo":
        left_out = OF_SEPO
    elif given.get("use_critic"):
        left_out = ("scale_rewards",)
    elif given.get("sampler") is not None or (what.generator and not isinstance(generator_of(what).process, Absorbing)):
        left_out = ("reading",)
    options = {name: value for name, value in FINETUNE.items() if name not in left_out} | given
    options |= {"model": what.start, "output_dir": what.folder / "tuned", "seed": what.seed}
    options |= _loading(what, given.get("model_init_kwargs"))
    if options.get("rollout_guidance") in UNREWARDED:
        options["rollout_guidance_kwargs"] = {
            "unconditional": what.base,
            **(options.get("rollout_guidance_kwargs") or {}),
        }
    if what.start != what.base and not options.get("sync_ref_model"):
        options.setdefault("reference", what.base)
    return options


def finetuning_words(what: Design) -> list[str]:
    task = {"data": what.data, "oracles": what.folder / "oracles", **_columns(what)}
    return [*_task_words(task), *in_words(finetuning_options(what))]


def oracle_marks(what: Design, name: str) -> dict[str, Any]:
    """What tells the oracle reward, judge or other from any other, and how it is read."""
    read = {"doubt": what.doubt} if name == "reward" else {}
    named = what.outside.get(name)
    if named is None:
        return read | marks(sorted((what.folder / "oracles" / name).glob(f"{MEMBERS}/*.safetensors")))
    return read | {"name": named} | marks_of(named) | marks(files_of(named))


@dataclass(frozen=True)
class Training:
    """A command that trains: its grammar, the options that were given, what it does with them, and what its summary
    calls the time that it took. idle: options of the task that decide nothing of it.
    """

    grammar: Grammar
    options: Callable[[Given], tuple[Any, ...]]
    train: Callable[..., pretrain.Pretrained | finetune.Finetuned]
    took: str
    idle: tuple[str, ...] = ("device", "oracle_timeout")


PRETRAINING = Training(
    pretrain.GRAMMAR, pretrain.options, pretrain.pretrain, "pretrain_seconds", idle=("device", "second")
)
FINETUNING = Training(finetune.GRAMMAR, finetune.options, finetune.finetune, "finetune_seconds")


def _trained(command: Training, folder: Path, words: Sequence[str], rests_on: Mapping[str, str]) -> bool:
    """Whether it is complete now."""
    given, run = parse(command.grammar, words), RunFolder(folder)
    recipe = plain(given.resolved(*command.options(given)))
    noted = folder / RESTS_ON
    same = noted.is_file() and read_json(noted) == rests_on
    same = same and run.config.is_file() and _deciding(read_config(run), command) == _deciding(recipe, command)
    if same and run.summary.is_file():
        return True
    before, spent = folder / BEFORE, 0.0
    if same and last_complete(folder) is not None:
        given = parse(command.grammar, [*words, "--resume", "true"])
        spent = read_json(before)["seconds"] if before.is_file() else 0.0
    done = command.train(given, callbacks=(NoteMarks(noted, rests_on),))
    took = round(spent + done.summary[command.took], 1)
    if not done.complete:
        write_json(before, {"seconds": took})
        say(f"{stopped(done.trainer)}; the same command goes on from there.")
        return False
    before.unlink(missing_ok=True)
    write_summary(run, {**done.summary, command.took: took})
    return True


def _deciding(recipe: Mapping[str, Any], command: Training) -> dict[str, Any]:
    """A recipe without the options that decide nothing of what is kept."""
    task = recipe.get("task")
    if not isinstance(task, Mapping):
        return dict(recipe)
    options = {name: value for name, value in task.get("init_args", {}).items() if name not in command.idle}
    return {**recipe, "task": {**task, "init_args": options}}


class NoteMarks(TrainerCallback):
    """Writes what a run rests on once it has begun, so that an earlier run's checkpoints never count for it."""

    def __init__(self, path: Path, marks: Mapping[str, str]) -> None:
        self.path, self.marks = path, marks

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        write_json(self.path, dict(self.marks))


def _task_words(options: Mapping[str, Any]) -> list[str]:
    given = {name: value for name, value in options.items() if value is not None}
    return ["--task", "measured", *in_words(given, "task.")]
