"""sepo demo: handwritten digits, from nothing to a report.

It is two commands with recipes that anyone can run, and a page that says what came of them:

    sepo pretrain digits --output_dir runs/demo/pretrained
    sepo finetune digits --model runs/demo/pretrained --output_dir runs/demo
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sepo.cli import finetune, pretrain
from sepo.cli.console import CONSOLE, INTERRUPTED, say, seconds, stopped
from sepo.cli.digits import digits_story, picture
from sepo.cli.grammar import Grammar, Group
from sepo.cli.parsing import parse
from sepo.runs import RunFolder, read_config, read_summary, write_report, write_summary
from sepo.runs.plain import plain
from sepo.tasks.base import device_for

QUICK_PRETRAIN = ("--max_steps", "4", "--warmup_steps", "1", "--network.family", "grid", "--network.hidden_size", "8")
QUICK_FINETUNE = ("--max_steps", "4", "--per_device_train_batch_size", "16", "--sampling_steps", "4", "--judged", "32")
SMALL_FOREST = ("--task.trees", "10")
FIGURES = (
    *("reward_before", "reward_after", "judge_agreement", "diversity_ratio", "path_kl", "network_evaluations"),
    *("pretrain_seconds", "finetune_seconds"),
)
"""What summary.json always holds, and holds first."""


@dataclass(frozen=True)
class Demo:
    """What the demo does.

    Args:
        output: the folder that everything is written to.
        seed: of all chance.
        beta: reward per nat of path KL to the pretrained model; null: the recipe's.
        front: further values of beta, each fine-tuned from the same pretrained model, for a chart of what they buy:
            --front 0.02 0.1. Those done before are kept.
        pretrained: folder of a model that was pretrained before; null: pretrain one.
        device: cpu; null: a GPU if there is one.
        quick: toy sizes, to see that it runs; the figures mean nothing.
    """

    output: str = "runs/demo"
    seed: int = 0
    beta: float | None = None
    front: list[float] | None = None
    pretrained: str | None = None
    device: str | None = None
    quick: bool = False


GRAMMAR = Grammar(
    "demo",
    "Pretrains a masked diffusion model of handwritten digits, fine-tunes it with SEPO until it draws threes (the "
    "reward: a random forest), lets judges that the reward never saw look at it, and writes report.html and "
    "summary.json. About four minutes on two CPU cores.",
    (Group("What the demo does", Demo),),
)


def run(words: Sequence[str]) -> int:
    what = parse(GRAMMAR, words).made(Demo)
    base = Path(what.pretrained or f"{what.output}/pretrained")
    if what.pretrained is None:
        done = pretrain.pretrain(parse(pretrain.GRAMMAR, pretrain_words(what, base)))
        if not done.complete:
            say(f"{stopped(done.trainer)}.")
            return INTERRUPTED
    tuned = finetune.finetune(parse(finetune.GRAMMAR, finetune_words(what, base)), watch_kl=True)
    if not tuned.complete:
        say(f"{stopped(tuned.trainer)}.")
        return INTERRUPTED
    summary = summary_of(tuned.summary, base)
    cells = front(what, base, summary)
    write_summary(tuned.run, summary | ({"front": cells} if cells else {}))
    (tuned.run.path / "before_after.png").write_bytes(picture(tuned))
    report = write_report(tuned.run, digits_story(tuned, summary, cells), title="Teaching a diffusion model threes")
    show(summary, report)
    return 0


def pretrain_words(what: Demo, base: Path) -> list[str]:
    quick = [*QUICK_PRETRAIN, *SMALL_FOREST] if what.quick else []
    return ["digits", "--output_dir", str(base), *_common(what), *quick]


def finetune_words(what: Demo, base: Path, beta: float | None = None, output: Path | None = None) -> list[str]:
    """The words behind `sepo finetune`: the recipe, and what the demo changes in it."""
    quick = [*QUICK_FINETUNE, *SMALL_FOREST] if what.quick else []
    beta = what.beta if beta is None else beta
    price = [] if beta is None else ["--beta", str(beta)]
    folders = ["--model", str(base), "--output_dir", str(output or what.output)]
    return ["digits", *folders, *_common(what), *price, *quick]


def _common(what: Demo) -> list[str]:
    on_cpu = what.device is not None and device_for(what.device) == "cpu"
    return ["--seed", str(what.seed), *(["--use_cpu"] if on_cpu else [])]


def summary_of(tuned: dict[str, Any], base: Path) -> dict[str, Any]:
    """The figures of the demo first, then all others."""
    found = read_summary(RunFolder(base)) if RunFolder(base).summary.is_file() else {}
    everything = {"pretrain_seconds": None, **found, **tuned}
    return {name: everything[name] for name in FIGURES} | everything


def front(what: Demo, base: Path, summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures for every beta that was asked for, that of the demo among them; empty if no front was asked for."""
    if not what.front:
        return {}
    cells = {beta: cell(what, base, beta) for beta in what.front if beta != summary["beta"]}
    cells[summary["beta"]] = summary
    return {str(beta): {name: cells[beta][name] for name in FIGURES} for beta in sorted(cells)}


def cell(what: Demo, base: Path, beta: float) -> dict[str, Any]:
    """One point of the front: a run of its own, made unless it is there with the same settings."""
    folder = RunFolder(Path(what.output) / "front" / f"beta_{beta:g}")
    given = parse(finetune.GRAMMAR, finetune_words(what, base, beta, folder.path))
    recipe = plain(given.resolved(*finetune.options(given)))
    if not folder.summary.is_file() or read_config(folder) != recipe:
        tuned = finetune.finetune(given, watch_kl=True)
        if not tuned.complete:
            raise KeyboardInterrupt
        write_summary(folder, summary_of(tuned.summary, base))
    return read_summary(folder)


def show(summary: dict[str, Any], report: Path) -> None:
    """The figures on the console, and where the pictures are."""
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("reward", f"{summary['reward_before']:.2f} -> [bold]{summary['reward_after']:.2f}[/]")
    table.add_row("unseen judges agree", f"{summary['judge_agreement']:.2f}")
    table.add_row("diversity, real threes = 1", f"{summary['diversity_ratio']:.2f}")
    table.add_row("path KL to the pretrained model", f"{summary['path_kl']:.1f} nats")
    table.add_row("network evaluations", f"{summary['network_evaluations']:,}")
    for name, key in TIMES.items():
        if summary[key] is not None:
            table.add_row(name, seconds(summary[key]))
    CONSOLE.print(table)
    say(f"Report: [bold]{report}[/]")


TIMES = {"pretraining": "pretrain_seconds", "fine-tuning": "finetune_seconds"}
