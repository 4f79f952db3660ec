"""sepo design: from a table of measured sequences to ranked designs.

Stages, each in a folder of its own and each kept where it is complete with the same settings:

    oracles      one that rewards, one that judges, fitted to different groups (and one of a second assay), or your own
    generator    sepo pretrain --task measured, or your own
    sft          if asked for: the generator fine-tuned to the most active sequences, where SEPO then begins
    tuned        sepo finetune --task measured --model generator
    drawn        sequences of the tuned generator, and what the oracles say of them
    designs      the best of these: designs.csv, designs.fasta, report.html, summary.json

config.yaml holds the options, as a recipe that repeats the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from sepo import recipes
from sepo.cli.console import INTERRUPTED, prepare, say
from sepo.cli.design_checks import require_stages
from sepo.cli.design_generator import require_generator
from sepo.cli.design_options import Design
from sepo.cli.design_report import report
from sepo.cli.design_training import finetuned, most_active, pretrained, supervised, task_of
from sepo.cli.designs import write_designs
from sepo.cli.errors import UsageError
from sepo.cli.grammar import Grammar, Group
from sepo.cli.oracles import Quality, fit_oracles, require_enough
from sepo.cli.parsing import parse, print_recipe
from sepo.runs import RunFolder, read_summary, write_config, write_summary

GRAMMAR = Grammar(
    "design",
    "From a table of sequences with a measured activity to ranked designs: fits the oracles, pretrains a generator, "
    "fine-tunes it with SEPO on one oracle, judges and ranks what it draws by another that the reward never saw. What "
    "is complete is kept; a run that was stopped goes on.",
    (Group("What is designed, from what", Design),),
    (
        "TABLE or RECIPE",
        "the table, in place of --data; or a YAML file of these options, such as the config.yaml that a run leaves in "
        f"its folder, or a shipped recipe ({', '.join(recipes.shipped('design'))}); options on the command line "
        "override it",
    ),
)


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    what = given.made(Design, **({} if given.argument is None or given.recipe else {"data": given.argument}))
    if given.print_config:
        print_recipe(given.resolved(what))
        return 0
    if what.data is None:
        raise UsageError(f"There is no table: name it. Usage: {GRAMMAR.usage}")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: `sepo design` runs in one process. Train in several with `sepo "
            "pretrain` and `sepo finetune --task measured`, and name the --generator here."
        )
    prepare()
    task = task_of(what)
    for finding in task.measured.findings:
        say(f"  [yellow]{escape(str(finding))}[/]{'' if finding.left_out else ' (used all the same)'}")
    require_enough(what, task.measured)
    require_generator(what, task.measured)
    _ = task.known_motifs  # what is wrong with them is told before anything is fitted
    if what.sft is not None:
        most_active(what)  # too few are told before anything is fitted
    require_stages(what, task)
    write_config(RunFolder(what.folder), given.resolved(what))
    qualities = fit_oracles(what, task.measured)
    if not (pretrained(what) and supervised(what) and finetuned(what)):
        return INTERRUPTED
    designs, figures = write_designs(what, task)
    tuned = read_summary(RunFolder(what.folder / "tuned"))
    summary = _summary(what, qualities, tuned, figures)
    write_summary(RunFolder(what.folder), summary)
    say(f"Designs: [bold]{designs}[/]")
    say(f"Report: [bold]{report(what, task, qualities, summary)}[/]")
    return 0


def _summary(
    what: Design, qualities: Mapping[str, Quality], tuned: Mapping[str, Any], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """The figures of fine-tuning and of the designs, what the oracles are worth, and how long each stage took, when it
    was made.
    """
    worth = {f"oracle_{name}_unseen": each.unseen for name, each in qualities.items() if each.unseen is not None}
    took: dict[str, Any] = {"oracles_seconds": sum(each.seconds or 0.0 for each in qualities.values())}
    made = {"pretrain": ("generator", what.generator is None), "sft": ("sft", what.sft is not None)}
    for stage, (folder, asked) in made.items():
        run = RunFolder(what.folder / folder)
        if asked and run.summary.is_file():
            took[f"{stage}_seconds"] = read_summary(run).get("pretrain_seconds")
    return {**worth, **tuned, **took, **figures}
