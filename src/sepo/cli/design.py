"""sepo design: from a table of measured sequences to ranked designs.

Four stages, each in a folder of its own and each kept where it is complete with the same settings:

    oracles      one that rewards, one that judges, fitted to different groups (and one of a second assay), or your own
    generator    sepo pretrain --task measured, or your own
    tuned        sepo finetune --task measured --model generator
    designs      samples of the tuned generator, ranked: designs.csv, designs.fasta, report.html, summary.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape

from sepo.cli import finetune, pretrain
from sepo.cli.console import INTERRUPTED, prepare, say
from sepo.cli.design_options import Design
from sepo.cli.designs import report, write_designs
from sepo.cli.errors import UsageError
from sepo.cli.grammar import Grammar, Group
from sepo.cli.oracles import Quality, fit_oracles, marks_of
from sepo.cli.parsing import parse
from sepo.models import load
from sepo.runs import RunFolder, read_config, read_summary, write_summary
from sepo.runs.plain import plain
from sepo.tasks import Measured

COLUMNS = ("alphabet", "sequence", "activity", "second", "group", "hidden_size", "stacks", "doubt")
"""Options that the task has too."""
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
    "save_steps": 500,
}
FINETUNE = {
    "max_steps": 100,
    "per_device_train_batch_size": 64,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "sampling_steps": 32,
    "beta": 0.02,
    "scale_rewards": "batch",
    "logging_steps": 5,
    "save_steps": 25,
}


GRAMMAR = Grammar(
    "design",
    "From a table of sequences with a measured activity to ranked designs: fits the oracles, pretrains a generator, "
    "fine-tunes it with SEPO on one oracle, judges and ranks what it draws by another that the reward never saw. What "
    "is complete is kept; a run that was stopped goes on.",
    (Group("What is designed, from what", Design),),
    ("TABLE", "the table, in place of --data"),
)


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    what = given.made(Design, **({} if given.argument is None else {"data": given.argument}))
    if what.data is None:
        raise UsageError(f"There is no table: name it. Usage: {GRAMMAR.usage}")
    prepare()
    task = task_of(what)
    for finding in task.measured.findings:
        say(f"  [yellow]{escape(str(finding))}[/]{'' if finding.left_out else ' (used all the same)'}")
    qualities = fit_oracles(what, task.measured)
    if not pretrained(what) or not finetuned(what):
        return INTERRUPTED
    started = time.monotonic()
    designs = write_designs(what, task, load(what.folder / "tuned"))
    tuned = read_summary(RunFolder(what.folder / "tuned"))
    summary = _summary(what, qualities, tuned, round(time.monotonic() - started, 1))
    write_summary(RunFolder(what.folder), summary)
    say(f"Designs: [bold]{designs}[/]")
    say(f"Report: [bold]{report(what, task, qualities, summary)}[/]")
    return 0


def task_of(what: Design) -> Measured:
    return Measured(data=str(what.data), oracles=str(what.folder / "oracles"), **_columns(what))


def _columns(what: Design) -> dict[str, Any]:
    """Options of the task that were given here."""
    given = {name: getattr(what, name) for name in (*COLUMNS, *OUTSIDE)}
    return {**given, "oracle_timeout": what.oracle_timeout} if what.outside else given


def pretrained(what: Design) -> bool:
    """Whether there is a generator now."""
    if what.generator is not None:
        return True
    options = {**PRETRAIN, **(what.pretrain or {})}
    if options.get("max_steps") is None:
        options["max_steps"] = pretraining_steps(what)
    options |= {"output_dir": what.folder / "generator", "seed": what.seed}
    given = parse(pretrain.GRAMMAR, [*_task_words(what), *in_words(options)])
    recipe = plain(given.resolved(*pretrain.options(given)))
    return _kept(what.folder / "generator", recipe) or pretrain.pretrain(given).complete


def pretraining_steps(what: Design) -> int:
    """So many that the table is read 40 times, but 500 to 4,000: a small one would be learned by heart."""
    options = {**PRETRAIN, **(what.pretrain or {})}
    batch = int(options["per_device_train_batch_size"]) * int(options.get("gradient_accumulation_steps", 1))
    return min(max(PASSES * len(task_of(what).measured) // batch, LEAST_STEPS), MOST_STEPS)


def finetuned(what: Design) -> bool:
    """Whether the generator is fine-tuned now."""
    folder = what.folder / "tuned"
    options = {**FINETUNE, **(what.finetune or {}), "output_dir": folder, "seed": what.seed}
    given = parse(finetune.GRAMMAR, [*_task_words(what), "--model", what.base, *in_words(options)])
    recipe, rests_on = plain(given.resolved(*finetune.options(given))), _marks(what, what.base)
    if _kept(folder, recipe) and read_summary(RunFolder(folder)).get("rests_on") == rests_on:
        return True
    done = finetune.finetune(given)
    if done.complete:
        write_summary(done.run, {**done.summary, "rests_on": rests_on})
    return done.complete


def _marks(what: Design, generator: str) -> dict[str, str]:
    """What tells the oracles and the generator that fine-tuning rests on from any others."""
    fitted = [
        path
        for path in sorted((what.folder / "oracles").rglob("*.safetensors"))
        if path.parent.parent.name not in what.outside
    ]
    files = [*fitted, *sorted(Path(generator).glob("*.safetensors"))]
    marks = {f"{path.parent.parent.name}/{path.parent.name}": sha256(path.read_bytes()).hexdigest() for path in files}
    return {**marks, **{path: mark for named in what.outside.values() for path, mark in marks_of(named).items()}}


def _kept(folder: Path, recipe: Any) -> bool:
    """Whether the stage is complete there, with these settings."""
    run_folder = RunFolder(folder)
    return run_folder.summary.is_file() and read_config(run_folder) == recipe


def _task_words(what: Design) -> list[str]:
    options = {"data": what.data, "oracles": what.folder / "oracles", **_columns(what)}
    return ["--task", "measured", *in_words(options, "task.")]


def in_words(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Options as a command line has them."""
    words = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            words += in_words(value, f"{prefix}{name}.")
        elif value is not None:
            words += [f"--{prefix}{name}", _in_word(value) if prefix else str(value)]
    return words


def _in_word(value: Any) -> str:
    """A value behind a dotted option, which is read as YAML: text that would be read as something else is quoted."""
    try:
        same = not isinstance(value, str) or yaml.safe_load(value) == value
    except yaml.YAMLError:
        same = False
    return str(value) if same else json.dumps(value)


def _summary(
    what: Design, qualities: Mapping[str, Quality], tuned: Mapping[str, Any], designing: float
) -> dict[str, Any]:
    """The figures of fine-tuning, what the oracles are worth, and how long each stage took, when it was made."""
    worth = {f"oracle_{name}_unseen": each.unseen for name, each in qualities.items() if each.unseen is not None}
    took: dict[str, Any] = {"oracles_seconds": sum(each.seconds or 0.0 for each in qualities.values())}
    generator = RunFolder(what.folder / "generator")
    if what.generator is None and generator.summary.is_file():
        took["pretrain_seconds"] = read_summary(generator).get("pretrain_seconds")
    kept = {name: value for name, value in tuned.items() if name != "rests_on"}
    return {**worth, **kept, **took, "designs_seconds": designing}
