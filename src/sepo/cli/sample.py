"""sepo sample: samples of a model, printed or written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepo.cli.console import prepare, say, seconds
from sepo.cli.errors import UsageError
from sepo.cli.grammar import Grammar, Group
from sepo.cli.guiding import Guidance, Opened, guidance_for
from sepo.cli.naming import rewards_named, task_named
from sepo.cli.opening import chosen_sampler, model_named
from sepo.cli.parsing import parse
from sepo.cli.rows import Row, read_prompts
from sepo.cli.samples import Samples, draw_samples, rows_for
from sepo.cli.writing import as_lines, require_writable, write_samples
from sepo.models import tokenizer_for
from sepo.rewards import Rewards
from sepo.samplers.guided import UNREWARDED, needs_kernel
from sepo.tasks import Task
from sepo.tasks.base import device_for
from sepo.training.policy import prompts_through


@dataclass(frozen=True)
class Sample:
    """What is sampled, and how.

    Args:
        model: folder or hub id of the model.
        model_init_kwargs: how the model is loaded, as the options of sepo.load: --model_init_kwargs.dtype bfloat16.
        num: samples; with prompts, samples of each.
        prompts: a file of prompts: txt with one per line, csv, json, jsonl or parquet; or one prompt as it is. Of a
            model without tokenizer they are rows with "tokens" and "free". null: no prompts.
        sampler: first_hitting, left_to_right, confidence (LLaDA, Dream), ancestral, tau_leaping, predictor_corrector
            (the gradient flow), remdm, gibbs, dplm, or blocks (options block_length, blocks, inner); null:
            first_hitting for masks, ancestral for other processes and under guidance, but for
            best_of_n and for classifier_free with two models.
        sampler_kwargs: options of that sampler, as --sampler_kwargs.corrector_steps 2; of confidence with blocks
            --sampler_kwargs.cache block is faster and approximate.
        guidance: best_of_n, svdd or smc around that sampler, led by any reward, tds or classifier by one with a
            gradient (of the task measured), classifier_free by a second model and no reward; null: none.
        guidance_kwargs: its options, as --guidance_kwargs.candidates 8 (best_of_n: n; svdd: candidates, beta; smc and
            tds: particles, beta, threshold; svdd and smc: value, learned or the folder of one that was, and
            value_kwargs, how it is learned, with the folder to keep it in; classifier: gamma; classifier_free: weight,
            and unconditional, the folder or hub id of the model to move away from, such as the one before
            fine-tuning; null: the prompt is masked).
        reward: what leads the guidance, in place of the task's reward: as in sepo evaluate.
        steps: network evaluations per sample at most (of the predictor); null: one site per step (first_hitting,
            left_to_right), 64 or 128 (others).
        seed: of all chance; the same seed draws the same samples, whatever the batch.
        max_completion_length: free sites behind a text prompt.
        length: of a sample without prompt; null: the model's own.
        output: a file: jsonl, npy (tokens), txt or, of a task that knows letters, fasta, of one that draws pictures,
            png; null: stdout.
        task: digits, ehrlich, enhancer, measured, sudoku, or a class of your own: its letters, its pictures, and its
            test prompts where prompts is null.
        tokenizer: folder or hub id; null: the one beside the model, if there is one.
        batch_size: samples drawn at once.
        device: cpu, cuda, ...; null: a GPU if there is one.
    """

    model: str | None = None
    model_init_kwargs: dict[str, Any] | None = None
    num: int = 16
    prompts: str | None = None
    sampler: str | None = None
    sampler_kwargs: dict[str, Any] | None = None
    guidance: str | None = None
    guidance_kwargs: dict[str, Any] | None = None
    reward: str | list[str] | None = None
    steps: int | None = None
    seed: int = 0
    max_completion_length: int = 256
    length: int | None = None
    output: str | None = None
    task: str | dict[str, Any] | None = None
    tokenizer: str | None = None
    batch_size: int = 64
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("num", "batch_size", "max_completion_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1.")


GRAMMAR = Grammar(
    "sample",
    "Draw samples from a model, print them or write them to a file, and say how many network evaluations they took.",
    (Group("What is sampled, and how", Sample),),
    ("MODEL", "folder or hub id of the model, in place of --model"),
)


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    what = given.made(Sample)
    name = given.argument or what.model
    if name is None:
        raise UsageError("There is no model to sample from: name its folder or hub id.")
    prepare()
    task = None if what.task is None else task_named(what.task)
    path = None if what.output is None else Path(what.output)
    if path is not None:
        require_writable(path, task)
    samples = sampled(name, what, task)
    if path is None:
        print(as_lines(samples, task), end="")
    else:
        write_samples(path, samples, task)
        say(f"Samples: [bold]{path}[/]")
    each = samples.evaluations / len(samples)
    asked = f", {samples.reward_calls} sequences scored on the way" if samples.reward_calls else ""
    asked += f"; {samples.effective}" if samples.effective else ""
    part = "" if samples.share == 1 else f", at {samples.share:.0%} of the sites"
    say(
        f"{len(samples)} samples in {seconds(samples.seconds)}, {samples.evaluations} network evaluations "
        f"({each:.4g} per sample{part}){asked}"
    )
    return 0


def sampled(name: str, what: Sample, task: Task | None) -> Samples:
    """The samples that the options describe."""
    policy = model_named(name, device_for(what.device), **(what.model_init_kwargs or {}))
    tokenizer: Any = None if task is None else task.tokenizer
    tokenizer = tokenizer or tokenizer_for(what.tokenizer or name)
    rows: Any = None if task is None else task.test_prompts()
    if what.prompts is not None:
        rows = prompts_named(what.prompts)
        rows = [row for row in rows for _ in range(what.num)]
    guidance = _guidance(what, task, Opened(name, policy, what.model_init_kwargs or {}))
    kernel = needs_kernel(what.guidance, what.guidance_kwargs)
    sampler = chosen_sampler(policy, what.sampler, what.steps, what.sampler_kwargs, kernel)
    prompts = prompts_through(policy, sampler, rows, tokenizer, what.max_completion_length, what.length)
    if what.prompts is None:
        rows = rows_for(rows, what.num, 1 if guidance is None else guidance.together)
    return draw_samples(policy, sampler, prompts, rows, what.seed, what.batch_size, guidance)


def _guidance(what: Sample, task: Task | None, model: Opened) -> Guidance | None:
    if what.reward and what.guidance is None:
        raise ValueError(f"reward={what.reward!r} leads a guidance, and there is none: name one with --guidance.")
    if what.reward and what.guidance in UNREWARDED:
        raise ValueError(
            f"reward={what.reward!r}: guidance={what.guidance!r} is led by a second model and asks no reward; leave "
            "--reward out, and measure samples with `sepo evaluate`."
        )
    functions = rewards_named(what.reward, task)
    rewards = Rewards.of(functions).to(model.policy.device) if functions else None
    return guidance_for(what.guidance, what.guidance_kwargs, rewards, task, model)


def prompts_named(name: str) -> Sequence[Row]:
    """The prompts in a file, or the text itself as the only one."""
    path = Path(name).expanduser()
    if path.is_file() or path.suffix in (".txt", ".csv", ".json", ".jsonl", ".parquet"):
        return read_prompts(name)
    return [{"prompt": name}]
