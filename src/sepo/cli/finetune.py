"""sepo finetune: a model, a reward, SEPO."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from sepo import recipes
from sepo.cli.console import INTERRUPTED, ShowProgress, WriteRecipe, prepare, say, stopped
from sepo.cli.errors import UsageError
from sepo.cli.grammar import Grammar, Group
from sepo.cli.guiding import Opened, guided_rollouts_for, soft_algorithm_for
from sepo.cli.judging import Compared, Comparison, Judge, WatchedReward
from sepo.cli.naming import rewards_named, task_named
from sepo.cli.opening import adapter, model_beside, model_named, size
from sepo.cli.parsing import Given, group_of, parse, print_recipe
from sepo.cli.rows import Row, read_rows
from sepo.cli.story import before_after, curves, filled_in, headline, verdict
from sepo.diffusion.denoiser import Denoiser
from sepo.models import tokenizer_for
from sepo.runs import RunFolder, Section, metric_names, read_metrics, write_report, write_summary
from sepo.tasks import Task
from sepo.training import Apart, Frozen, Reference, SEPOConfig, SEPOTrainer

SHOWN = (
    *("output_dir", "max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "max_grad_norm", "bf16", "activation_checkpointing"),
    *("logging_steps", "save_steps", "save_total_limit", "eval_strategy", "eval_steps", "per_device_eval_batch_size"),
    *("report_to", "seed", "use_cpu"),
)
"""Of what SEPOConfig inherits from TrainingArguments, the options that --help lists."""
LEFT_OUT = ("debug", "resume_from_checkpoint", "do_train", "do_eval", "do_predict", "local_rank", "disable_tqdm")
"""Fields of TrainingArguments that are no options: ours have their meaning, or they have none here."""


@dataclass(frozen=True)
class Finetune:
    """What is fine-tuned, and on what.

    Args:
        model: folder or hub id of the model.
        reference: folder or hub id of the model to which the path KL is measured (beta is its weight), and with which
            the report compares; null: the model as it is at first. It is opened with the same model_init_kwargs, but
            for the revision.
        task: digits, ehrlich, enhancer, measured, sudoku, or a class of your own, as package.module:Class or
            file.py:Class; its options as --task.digit 7. It brings prompts, reward, metrics and pictures.
        reward: in place of the task's: package.module:function, file.py:function, a folder or hub id of a
            sequence-classification model, or several of these. It is handed text where the model has a tokenizer or the
            task knows letters (measured, enhancer), else arrays of token ids.
        dataset: prompts, in place of the task's: a csv, json, jsonl or parquet file, or a hub id. Without task and
            dataset, sequences are drawn without prompts.
        dataset_split: of a hub dataset.
        eval_dataset: prompts for eval_strategy, in the same forms.
        tokenizer: folder or hub id; null: the one beside the model, if there is one.
        peft: options of a LoRA adapter, such as --peft.r 8; true: its defaults; null: all weights are trained.
        resume: true, the last complete checkpoint in output_dir; or the folder of a checkpoint.
        judged: samples that the task judges before and after, for the report; 0: none.
    """

    model: str | None = None
    reference: str | None = None
    task: str | dict[str, Any] | None = None
    reward: str | list[str] | None = None
    dataset: str | None = None
    dataset_split: str = "train"
    eval_dataset: str | None = None
    tokenizer: str | None = None
    peft: bool | dict[str, Any] | None = None
    resume: bool | str = False
    judged: int = 256


GRAMMAR = Grammar(
    "finetune",
    "Fine-tune a discrete diffusion model with SEPO on a reward. Writes a run folder: the model, config.yaml (a "
    "recipe that repeats the run), metrics.jsonl, completions, checkpoints, summary.json and report.html.",
    (
        Group("What is fine-tuned, and on what", Finetune),
        group_of("How (SEPOConfig)", SEPOConfig, SHOWN, (*LEFT_OUT, "parallelism_config")),
    ),
    (
        "RECIPE",
        f"a YAML file of these options, or a shipped recipe ({', '.join(recipes.shipped('finetune'))}); options on the "
        "command line override it",
    ),
)


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What came of it. compared: what the task says of it, if there is one; complete: it was not interrupted."""

    trainer: SEPOTrainer
    task: Task | None
    compared: Compared | None
    summary: dict[str, Any]
    complete: bool = True

    @property
    def run(self) -> RunFolder:
        return self.trainer.run_folder


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    if given.print_config:
        print_recipe(given.resolved(*options(given)))
        return 0
    done = finetune(given)
    if not done.complete:
        say(f"{stopped(done.trainer)}; go on with --resume.")
        return INTERRUPTED
    if done.trainer.is_world_process_zero():
        write_summary(done.run, done.summary)
        report = write_report(done.run, story(done), title=f"Fine-tuning: {given.name}")
        say(f"Model, metrics and report: [bold]{report.parent}[/]")
    return 0


def options(given: Given) -> tuple[Finetune, SEPOConfig]:
    return given.made(Finetune), given.made(SEPOConfig, output_dir=f"runs/{given.name}", disable_tqdm=True)


def finetune(given: Given, watch_kl: bool = False, callbacks: Sequence[TrainerCallback] = ()) -> Finetuned:
    """Trains and saves the model. watch_kl: the path KL is logged even where beta = 0 does not need it.

    Raises:
        ValueError: something that was named is not there, or does not fit.
    """
    prepare()
    started = time.monotonic()
    what, args = options(given)
    task = None if what.task is None else task_named(what.task)
    trainer = trainer_for(what, args, task, watch_kl)
    for callback in (WriteRecipe(trainer.run_folder, given.resolved(what, args)), *callbacks):
        trainer.add_callback(callback)
    judge = judge_for(trainer, what, task)
    comparison = None if judge is None else Comparison.begin(judge, compared_with(trainer))
    say(f"Fine-tuning [bold]{what.model}[/] with SEPO ({size(trainer.policy)})")
    with ShowProgress("  SEPO", ("reward", "kl")).over(trainer):
        trainer.train(resume_from_checkpoint=what.resume)
    complete = not trainer.interrupt.interrupted
    compared = None
    if complete:
        trainer.save_model()
        compared = None if comparison is None else comparison.end(trainer.policy)
    summary: dict[str, Any] = {
        "finetune_seconds": round(time.monotonic() - started, 1),
        "steps": trainer.state.global_step,
        "beta": args.beta,
    }
    return Finetuned(trainer, task, compared, (figures(trainer, compared) if complete else {}) | summary, complete)


def trainer_for(what: Finetune, args: SEPOConfig, task: Task | None, watch_kl: bool = False) -> SEPOTrainer:
    """The trainer that the options describe."""
    if what.model is None:
        raise UsageError("There is no model to fine-tune: name its folder or hub id with --model.")
    if what.reward is None and task is None:
        raise UsageError("There is no reward: name one with --reward package.module:function, or a --task.")
    more: Any = args.model_init_kwargs or {}
    policy = model_named(what.model, **more)
    rewarding = task if what.reward is None else None
    tokenizer: Any = None if task is None else task.tokenizer
    return SEPOTrainer(
        model=policy,
        reward_funcs=_rewards(what, args, task),
        args=args,
        train_dataset=prompts_of(what, task),
        eval_dataset=unseen_prompts_of(what, task),
        processing_class=tokenizer or tokenizer_for(what.tokenizer or what.model),
        peft_config=adapter(what.peft, policy),
        algorithm=soft_algorithm_for(args, rewarding),
        sampler=guided_rollouts_for(args, rewarding, Opened(what.model, policy, more)),
        reference=_reference(what, args, policy, watch_kl),
    )


def _reference(what: Finetune, args: SEPOConfig, policy: Denoiser, watch_kl: bool) -> Reference | None:
    """In place of the one that the options describe."""
    if what.reference is None:
        return Frozen.of(policy.network) if watch_kl else None
    if args.sync_ref_model:
        raise ValueError(
            f"reference={what.reference!r} stays as it is, and sync_ref_model=True lets the reference follow the "
            "policy: drop one."
        )
    options: Any = args.model_init_kwargs or {}
    return Apart.of(model_beside("reference", what.reference, policy, str(args.device), options), policy)


def compared_with(trainer: SEPOTrainer) -> Denoiser:
    """What the fine-tuned model is compared with: the policy as it is now, or the reference where that is another."""
    return trainer.reference.model if isinstance(trainer.reference, Apart) else trainer.policy


def prompts_of(what: Finetune, task: Task | None) -> Sequence[Row] | None:
    """What is trained on; None: there are no prompts."""
    if what.dataset is not None:
        return read_rows(what.dataset, what.dataset_split)
    return None if task is None else task.prompts()


def unseen_prompts_of(what: Finetune, task: Task | None) -> Sequence[Row] | None:
    """What is judged and evaluated on; None: there are no others."""
    if what.eval_dataset is not None:
        return read_rows(what.eval_dataset, what.dataset_split)
    return task.test_prompts() if task is not None and what.dataset is None else None


def _rewards(what: Finetune, args: SEPOConfig, task: Task | None) -> Any:
    if what.reward is not None or task is None:
        return rewards_named(what.reward, task)
    collection = (args.steps_per_generation or 1) * args.num_iterations // args.gradient_accumulation_steps
    return WatchedReward(task, every=max(int(args.logging_steps), 1), span=collection)


def judge_for(trainer: SEPOTrainer, what: Finetune, task: Task | None) -> Judge | None:
    """The judge before and after; None without a task or samples to judge, and on all processes but the first."""
    if task is None or what.judged == 0 or not trainer.is_world_process_zero():
        return None
    collector = trainer.collector
    rows: Any = trainer.eval_dataset or prompts_of(what, task)
    return Judge(collector.prompts, rows, collector.sampler, collector.rewards, task, what.judged, trainer.args.seed)


def figures(trainer: SEPOTrainer, compared: Compared | None) -> dict[str, Any]:
    """For summary.json: reward and the task's metrics before and after, path KL, costs."""
    spent = trainer.progress.spent()
    if compared is None:
        rewards = [line["reward"] for line in trainer.state.log_history if "reward" in line]
        return {"reward_before": rewards[0], "reward_after": rewards[-1], **spent} if rewards else spent
    return {
        "reward_before": compared.before.reward,
        "reward_after": compared.after.reward,
        **compared.after.metrics,
        "path_kl": compared.path_kl,
        **spent,
        **{f"{name}_before": value for name, value in compared.before.metrics.items()},
    }


def story(done: Finetuned) -> list[Section]:
    """The report of a run on a task; without a task it is drawn from the run folder alone."""
    if done.task is None or done.compared is None:
        return []
    before, after = done.compared.before, done.compared.after
    return [
        headline(before, after, done.summary),
        before_after(done.task, before, after),
        *filled_in(done.task, after, done.trainer.policy, "The fine-tuned model at work"),
        curves(metric_names(read_metrics(done.run)), list(after.metrics)),
        verdict({"before": before, "after": after}),
    ]
