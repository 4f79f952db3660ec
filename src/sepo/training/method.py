"""What a run did, as its model card tells it: the method with its paper, the options, the sampler, the last metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import Any

from torch import nn
from transformers import TrainerState, TrainingArguments

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Process
from sepo.models.model_card import Drawing, Measured
from sepo.objectives import SEPO
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.algorithms import ALGORITHMS, OF_SOFT_REWARDS
from sepo.rewards.named import reward_name
from sepo.samplers import COMPOSED, SAMPLERS, Ancestral, FirstHitting, Sampler
from sepo.training.building import OF_ADVANTAGE, OF_OBJECTIVE, build_algorithm

OF_TRAINING = (
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio", "optim", "optim_args"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "seed", "bf16", "fp16"),
)
"""Options of transformers that decide what comes out."""

NO_MATTER = (
    *("algorithm", "algorithm_kwargs", "reward_weights", "model_init_kwargs"),
    *("reward_timeout", "reward_retries", "num_generations_eval", "bound_draws"),
    *("log_completions", "save_completions", "num_completions_to_print"),
)
"""Options of ours that the card tells elsewhere, or that change nothing of the model."""

OVERRULED = {
    "sampler": ("sampler", "sampler_kwargs", "sampling_steps", "rollout_guidance", "rollout_guidance_kwargs"),
    "objective": (*OF_OBJECTIVE, "path_kl_coef", "entropy_coef"),
    "advantage": OF_ADVANTAGE,
    "reference": ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"),
}
"""Options that say nothing where the object itself was given."""

TECHNICAL = frozenset(
    (
        *("epoch", "step", "loss", "grad_norm", "learning_rate", "step_time", "total_flos", "num_input_tokens_seen"),
        *("return", "ratio", "frac_reward_none", "frac_reward_zero_std", "value", "value_loss", "value_clip_ratio"),
    )
)
"""Metrics that watch over a run and say nothing of the model."""

NAMES: dict[type, str] = {kind: name for name, kind in (SAMPLERS | COMPOSED).items()}
"""Of samplers."""

CLOCK = ("_runtime", "_per_second")


@dataclass(frozen=True)
class Method:
    """made: what was done, as the end of a sentence; note: on evaluations."""

    made: str
    name: str
    tags: tuple[str, ...] = ()
    papers: tuple[Paper, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def fine_tuning(args: Any, algorithm: Algorithm | None, **given: Any) -> Method:
    """Of a SEPOConfig; given: sampler, objective, advantage and reference in place of what it describes, or None."""
    algorithm = algorithm or build_algorithm(args)
    objects = {role: each for role, each in given.items() if each is not None}
    objective = objects.get("objective")
    own: dict[str, Any] = {}
    if objective is not None and type(objective) is not SEPO:
        name, paper = type(objective).__name__, None
    elif objective is not None or algorithm is None:
        name, paper = "SEPO", SEPO.paper
    else:
        names = {kind: name for name, kind in (ALGORITHMS | OF_SOFT_REWARDS).items()}
        name, paper = names.get(type(algorithm), type(algorithm).__name__), algorithm.paper
        own = {f"algorithm_kwargs.{option}": value for option, value in changed(algorithm).items()}
    options = changed_options(args, {name for role in objects for name in OVERRULED[role]})
    options |= own | {role: spelled(each) for role, each in objects.items()}
    papers = () if paper is None else (paper,)
    return Method("fine-tuned on rewards", name, (name.lower(),), papers, options)


def pretraining(args: Any) -> Method:
    """Of a PretrainConfig. The paper is that of the loss."""
    paper = Paper("Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution", "2310.16834")
    note = (
        f"Evaluations are of weights averaged with decay {args.ema}, which the model holds once training has ended."
        if args.ema
        else ""
    )
    return Method("trained on data", "the score entropy", ("pretraining",), (paper,), changed_options(args), note)


def changed_options(args: Any, overruled: Collection[str] = ()) -> dict[str, Any]:
    """What of the configuration decides the model and is not as it is by default. No paths, no tokens of the hub."""
    inherited = {option.name for option in fields(TrainingArguments)}
    left_out = {*NO_MATTER, *overruled}
    told = {
        name: value
        for name, value in changed(args).items()
        if (name in OF_TRAINING or name not in inherited) and name not in left_out and value is not None
    }
    if told.get("steps_per_generation") == args.gradient_accumulation_steps:
        del told["steps_per_generation"]  # what None means
    return told


def changed(options: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as they are by default, for people; networks are no options."""
    told: dict[str, Any] = {}
    for option in fields(options):
        if isinstance(getattr(options, option.name), (nn.Module, Denoiser)):
            continue
        value, made = spelled(getattr(options, option.name)), option.default_factory
        if option.init and value != spelled(option.default if made is MISSING else made()):
            told[option.name] = value
    return told


def spelled(value: Any) -> Any:
    """For people: numbers and text as they are, objects by their class and what is special in them."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): spelled(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [spelled(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(f'{name}={each!r}' for name, each in changed(value).items())})"
    return reward_name(value) if callable(value) else type(value).__name__


def drawing(sampler: Sampler | None, process: Process, completion: int | None, texts: bool) -> Drawing:
    """The sampler of the run, where the library has it by a name; else the usual one of the process."""
    usual: Any = FirstHitting() if isinstance(process, Absorbing) else Ancestral()
    shown: Any = usual if sampler is None or any(type(each) not in NAMES for each in _parts(sampler)) else sampler
    words = [] if type(shown) is type(usual) else ["--sampler", NAMES[type(shown)]]
    classes = tuple(type(each).__name__ for each in _parts(shown))
    return Drawing(classes, _code(shown), (*words, *_words(shown)), completion, texts)


def _parts(sampler: Any) -> list[Any]:
    """The sampler, and the one inside it."""
    return [sampler, *(_parts(sampler.inner) if type(sampler) in COMPOSED.values() else ())]


def _own(sampler: Any) -> dict[str, Any]:
    return {name: value for name, value in changed(sampler).items() if name != "inner"}


def _code(sampler: Any) -> str:
    """The call that makes it."""
    inside = [_code(each) for each in _parts(sampler)[1:2]]
    options = [f"{name}={value!r}" for name, value in _own(sampler).items()]
    return f"{type(sampler).__name__}({', '.join(inside + options)})"


def _words(sampler: Any, prefix: str = "--sampler_kwargs.") -> list[str]:
    """Its options on the command line, those of the one inside it before its own."""
    words: list[str] = []
    for inner in _parts(sampler)[1:2]:
        words += [f"{prefix}inner", NAMES[type(inner)], *_words(inner, f"{prefix}inner_kwargs.")]
    for name, value in _own(sampler).items():
        words += ["--steps" if name == fields(sampler)[0].name else f"{prefix}{name}", str(value)]
    return words


def last_metrics(state: TrainerState, args: TrainingArguments) -> tuple[list[Measured], str]:
    """Each metric as it was logged last, evaluations behind the others; and what a reader should know of them.

    Where the best weights were loaded at the end, those of later steps are left out.
    """
    lines: Sequence[Mapping[str, Any]] = state.log_history
    ends = [place for place, line in enumerate(lines) if "train_runtime" in line]
    best, of_best = state.best_global_step, ""
    if args.load_best_model_at_end and best and ends:
        lines = [line for place, line in enumerate(lines) if line["step"] <= best or place > ends[-1]]
        of_best = f"The weights are those of step {best}, the best by `{args.metric_for_best_model}`."
    last: dict[str, Measured] = {}
    for line in lines:
        for name, value in line.items():
            if name in TECHNICAL or name.startswith(("clip_ratio/", "completions/")) or name.endswith(CLOCK):
                continue
            last.pop(name, None)
            if isinstance(value, (int, float)) and isfinite(value):
                last[name] = Measured(name, float(value), int(line["step"]))
    of_training = ""
    if "reward" in last:
        last.pop("train_loss", None)  # a surrogate's value tells nothing
        of_training = "Rewards, KL and entropy of training are means since the log line before."
    note = f"{of_training} {of_best}".strip()
    return sorted(last.values(), key=lambda each: each.name.startswith("eval_")), note
