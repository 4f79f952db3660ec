"""sepo evaluate: what a model is worth, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sepo.cli.console import prepare, say
from sepo.cli.errors import UsageError
from sepo.cli.grammar import Grammar, Group
from sepo.cli.guiding import Opened, guidance_for
from sepo.cli.judging import Judge
from sepo.cli.naming import rewards_named, task_named
from sepo.cli.opening import chosen_sampler, model_beside, model_named
from sepo.cli.parsing import parse
from sepo.cli.rows import read_rows
from sepo.cli.samples import path_kl
from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.bounds import held_out_bound
from sepo.models import tokenizer_for
from sepo.rewards import Rewards
from sepo.runs.plain import plain, to_json, write_json
from sepo.samplers.guided import needs_kernel
from sepo.tasks import Task
from sepo.tasks.base import device_for
from sepo.training.examples import Examples
from sepo.training.policy import prompts_through


@dataclass(frozen=True)
class Evaluate:
    """What is evaluated, and how.

    Args:
        model: folder or hub id of the model.
        model_init_kwargs: how the model is loaded, as the options of sepo.load.
        task: digits, ehrlich, enhancer, measured, sudoku, or a class of your own, as package.module:Class or
            file.py:Class; its options as --task.digit 7. It brings test prompts, reward, metrics and held-out data.
        reward: in place of the task's: package.module:function, file.py:function, a folder or hub id of a
            sequence-classification model, or several of these. It is handed text where the model has a tokenizer or the
            task knows letters (measured, enhancer), else arrays of token ids.
        dataset: prompts in place of the task's: a csv, json, jsonl or parquet file, or a hub id.
        dataset_split: of a hub dataset.
        heldout: data for the bound in place of the task's, in the same forms.
        reference: folder or hub id of a model that the path KL is measured to; null: it is not.
        num: samples in all; the prompts are gone through as often as that takes.
        sampler: as of `sepo sample`; null: first_hitting for masks, ancestral for other processes.
        sampler_kwargs: options of that sampler.
        guidance: best_of_n, svdd or smc around that sampler, led by any reward, tds or classifier by one with a
            gradient (of the task measured), classifier_free by a second model and no reward; null: none.
        guidance_kwargs: its options, as --guidance_kwargs.candidates 8 (best_of_n: n; svdd: candidates, beta; smc and
            tds: particles, beta, threshold; svdd and smc: value, learned or the folder of one that was, and
            value_kwargs, how it is learned, with the folder to keep it in; classifier: gamma; classifier_free: weight,
            and unconditional, the folder or hub id of the model to move away from, such as the one before
            fine-tuning; null: the prompt is masked).
        steps: network evaluations per sample at most; null: one site per step (first_hitting), 128 (others).
        bound_draws: noise levels per sequence in the bound; 0: no bound.
        seed: of all chance.
        max_completion_length: free sites behind a text prompt.
        tokenizer: folder or hub id; null: the one beside the model, if there is one.
        output: a JSON file; null: evaluation.json in the model's folder; the same goes to stdout.
        device: cpu, cuda, ...; null: a GPU if there is one.
    """

    model: str | None = None
    model_init_kwargs: dict[str, Any] | None = None
    task: str | dict[str, Any] | None = None
    reward: str | list[str] | None = None
    dataset: str | None = None
    dataset_split: str = "test"
    heldout: str | None = None
    reference: str | None = None
    num: int = 256
    sampler: str | None = None
    sampler_kwargs: dict[str, Any] | None = None
    guidance: str | None = None
    guidance_kwargs: dict[str, Any] | None = None
    steps: int | None = None
    bound_draws: int = 8
    seed: int = 0
    max_completion_length: int = 256
    tokenizer: str | None = None
    output: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("num", 1), ("bound_draws", 0), ("max_completion_length", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {least}.")


GRAMMAR = Grammar(
    "evaluate",
    "Measure a model on fresh samples: reward, the task's metrics, path KL, and the bound on held-out data. JSON.",
    (Group("What is evaluated, and how", Evaluate),),
    ("MODEL", "folder or hub id of the model, in place of --model"),
)


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    what = given.made(Evaluate)
    name = given.argument or what.model
    if name is None:
        raise UsageError("There is no model to evaluate: name its folder or hub id.")
    if what.task is None and what.reward is None and what.heldout is None:
        raise UsageError("There is nothing to measure: name a --task, a --reward, or --heldout data.")
    prepare()
    found = evaluation(name, what)
    print(to_json(plain(found, "evaluation"), indent=2))
    path = Path(what.output) if what.output else Path(name) / "evaluation.json"
    if what.output or path.parent.is_dir():
        write_json(path, found)
        say(f"Written to [bold]{path}[/]")
    return 0


def evaluation(name: str, what: Evaluate) -> dict[str, Any]:
    """Everything that the options ask for, by name."""
    task = None if what.task is None else task_named(what.task)
    policy = model_named(name, device_for(what.device), **(what.model_init_kwargs or {}))
    tokenizer: Any = None if task is None else task.tokenizer
    tokenizer = tokenizer or tokenizer_for(what.tokenizer or name)
    found: dict[str, Any] = {"model": name}
    if task is not None or what.reward is not None:
        found |= worth(Opened(name, policy, what.model_init_kwargs or {}), what, task, tokenizer)
    if what.bound_draws:
        found |= bound_of(policy, what, task, tokenizer)
    return found


def worth(model: Opened, what: Evaluate, task: Task | None, tokenizer: Any) -> dict[str, Any]:
    """Reward, metrics and path KL of fresh samples."""
    policy = model.policy
    rows: Any = None if task is None else task.test_prompts()
    if what.dataset is not None:
        rows = read_rows(what.dataset, what.dataset_split)
    functions = rewards_named(what.reward, task)
    rewards = Rewards.of(functions or [task.reward if task is not None else None]).to(policy.device)
    chosen = rewards if functions else None
    guidance = guidance_for(what.guidance, what.guidance_kwargs, chosen, task, model)
    kernel = needs_kernel(what.guidance, what.guidance_kwargs)
    sampler = chosen_sampler(policy, what.sampler, what.steps, what.sampler_kwargs, kernel)
    prompts = prompts_through(policy, sampler, rows, tokenizer, what.max_completion_length)
    judged = Judge(prompts, rows, sampler, rewards, task, what.num, what.seed, guidance)(policy)
    found: dict[str, Any] = {"samples": len(judged.samples), "reward": judged.reward}
    if len(judged.rewards) > 1:
        found["rewards"] = judged.rewards
    found |= judged.metrics
    found["network_evaluations"] = judged.samples.evaluations
    if judged.samples.share < 1:
        found["share_of_sites"] = judged.samples.share
    if guidance is not None:
        found["reward_calls"] = judged.samples.reward_calls
    if judged.samples.effective is not None:
        found["effective_particles"] = asdict(judged.samples.effective)
    if what.reference is not None:
        other = model_beside("reference", what.reference, policy, str(policy.device), model.options)
        found["path_kl"] = path_kl(judged.samples, other)
    return found


def bound_of(policy: Denoiser, what: Evaluate, task: Task | None, tokenizer: Any) -> dict[str, Any]:
    """The bound on held-out data, if there is any."""
    rows: Any = None if task is None else task.heldout()
    if what.heldout is not None:
        rows = read_rows(what.heldout, what.dataset_split)
    if rows is None:
        return {}
    canvas = Examples(tokenizer, policy.length)(rows).to(policy.device)
    bound = held_out_bound(policy, canvas.tokens, canvas.free, canvas.attend, seed=what.seed, draws=what.bound_draws)
    return {"held_out_bound": {**asdict(bound), "perplexity": bound.perplexity}}
