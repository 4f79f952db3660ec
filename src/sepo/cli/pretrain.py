"""sepo pretrain: a discrete diffusion model from data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, set_seed

from sepo import recipes
from sepo.cli.console import INTERRUPTED, ShowProgress, WriteRecipe, prepare, say, stopped
from sepo.cli.errors import UsageError
from sepo.cli.finetune import LEFT_OUT, SHOWN
from sepo.cli.grammar import Grammar, Group
from sepo.cli.naming import task_named
from sepo.cli.opening import model_named, network_from, size
from sepo.cli.parsing import Given, group_of, parse, print_recipe
from sepo.cli.rows import Row, read_rows
from sepo.diffusion.denoiser import Denoiser
from sepo.models import tokenizer_for
from sepo.models.conversion import masked
from sepo.runs import Figure, Headline, write_report, write_summary
from sepo.tasks import Task
from sepo.training import PretrainConfig, PretrainTrainer


@dataclass(frozen=True)
class Pretrain:
    """What is trained, on what.

    Args:
        task: digits, ehrlich, enhancer, measured, sudoku, or a class of your own, as package.module:Class or
            file.py:Class; its options as --task.digit 7. It brings data, held-out data and a network.
        dataset: in place of the task's data: a csv, json, jsonl or parquet file, or a hub id, with a column "tokens",
            "text", or "prompt" and "completion".
        dataset_split: of a hub dataset.
        eval_dataset: held-out data for the bound, in the same forms.
        model: folder or hub id of a model that is trained further; null: a fresh network.
        model_init_kwargs: how that model is loaded, as the options of sepo.load; --model_init_kwargs.convert true
            begins from an autoregressive language model.
        network: a fresh network in place of the task's: its family and the options of its configuration, such as
            --network.family transformer --network.vocab_size 33; for one without a tokenizer the last id is the mask.
        process: absorbing or uniform, of a fresh network.
        tokenizer: folder or hub id, for text; null: the one beside the model, if there is one.
        resume: true, the last complete checkpoint in output_dir; or the folder of a checkpoint.
    """

    task: str | dict[str, Any] | None = None
    dataset: str | None = None
    dataset_split: str = "train"
    eval_dataset: str | None = None
    model: str | None = None
    model_init_kwargs: dict[str, Any] | None = None
    network: dict[str, Any] | None = None
    process: str = "absorbing"
    tokenizer: str | None = None
    resume: bool | str = False


GRAMMAR = Grammar(
    "pretrain",
    "Train a discrete diffusion model on data. Writes a folder that `sepo finetune --model` and sepo.load open, with "
    "config.yaml (a recipe that repeats the run), metrics.jsonl, checkpoints, summary.json and report.html.",
    (
        Group("What is trained, on what", Pretrain),
        group_of("How (PretrainConfig)", PretrainConfig, SHOWN, (*LEFT_OUT, "parallelism_config")),
    ),
    (
        "RECIPE",
        f"a YAML file of these options, or a shipped recipe ({', '.join(recipes.shipped('pretrain'))}); options on the "
        "command line override it",
    ),
)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What came of it; complete: to the last step."""

    trainer: PretrainTrainer
    summary: dict[str, Any]
    complete: bool = True


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    if given.print_config:
        print_recipe(given.resolved(*options(given)))
        return 0
    done = pretrain(given)
    if not done.complete:
        say(f"{stopped(done.trainer)}; go on with --resume.")
        return INTERRUPTED
    folder = done.trainer.run_folder
    if done.trainer.is_world_process_zero():
        shown = [Figure(name.replace("_", " "), value) for name, value in done.summary.items()]
        write_report(folder, [Headline(shown)], title=f"Pretraining: {given.name}")
    say(f"Model, metrics and report: [bold]{folder.path}[/]")
    return 0


def options(given: Given) -> tuple[Pretrain, PretrainConfig]:
    return given.made(Pretrain), given.made(PretrainConfig, output_dir=f"runs/{given.name}", disable_tqdm=True)


def pretrain(given: Given, callbacks: Sequence[TrainerCallback] = ()) -> Pretrained:
    """Trains, and saves the model and the figures.

    Raises:
        ValueError: something that was named is not there, or does not fit.
    """
    prepare()
    started = time.monotonic()
    what, args = options(given)
    set_seed(args.seed)
    task = None if what.task is None else task_named(what.task)
    trainer = trainer_for(what, args, task)
    for callback in (WriteRecipe(trainer.run_folder, given.resolved(what, args)), *callbacks):
        trainer.add_callback(callback)
    rows: Any = trainer.train_dataset
    doing = "Pretraining" if what.model is None else f"Training [bold]{what.model}[/] further"
    say(f"{doing} on {len(rows)} sequences ({size(trainer.policy)})")
    with ShowProgress("  Pretraining", ("loss",)).over(trainer):
        trainer.train(resume_from_checkpoint=what.resume)
    summary: dict[str, Any] = {"pretrain_seconds": _since(started), "steps": trainer.state.global_step}
    if trainer.interrupt.interrupted:
        return Pretrained(trainer, summary, complete=False)
    trainer.save_model()
    if trainer.eval_dataset is not None:
        found = trainer.evaluate()
        summary |= {"held_out_bound": found["eval_bound"], "held_out_perplexity": found["eval_perplexity"]}
        say(f"  held-out bound {found['eval_bound']:.3f} nats per token")
    summary["pretrain_seconds"] = _since(started)
    if trainer.is_world_process_zero():
        write_summary(trainer.run_folder, summary)
    return Pretrained(trainer, summary)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def trainer_for(what: Pretrain, args: PretrainConfig, task: Task | None) -> PretrainTrainer:
    """The trainer that the options describe."""
    rows: Any = None if task is None else task.corpus()
    if what.dataset is not None:
        rows = read_rows(what.dataset, what.dataset_split)
    if rows is None:
        raise UsageError("There is nothing to train on: name a --dataset, or a --task.")
    held = task.heldout() if task is not None and what.dataset is None else None
    if what.eval_dataset is not None:
        held = read_rows(what.eval_dataset, what.dataset_split)
    tokenizer: Any = None if task is None else task.tokenizer
    if what.tokenizer is not None or what.model is not None:
        tokenizer = tokenizer_for(what.tokenizer or str(what.model))
        if tokenizer is not None and (what.model_init_kwargs or {}).get("convert"):
            masked(tokenizer)
    return PretrainTrainer(_policy(what, task, tokenizer, rows[0]), args, rows, held, tokenizer)


def _policy(what: Pretrain, task: Task | None, tokenizer: Any, row: Row) -> Denoiser:
    if what.model is not None:
        return model_named(what.model, **(what.model_init_kwargs or {}))
    if what.network is not None:
        length = len(row["tokens"]) if "tokens" in row else None
        return network_from(what.network, what.process, tokenizer, length)
    if task is None:
        raise UsageError("There is no network to train: name a --model to train further, or a fresh --network.family.")
    return task.denoiser()
