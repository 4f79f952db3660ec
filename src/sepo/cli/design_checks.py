"""What is wrong with the options of the stages of `sepo design`, told before the first of them begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from sepo.cli.design_options import Design
from sepo.cli.design_training import (
    FINETUNING,
    PRETRAINING,
    Training,
    finetuning_words,
    pretraining_words,
    supervised_words,
)
from sepo.cli.errors import UsageError
from sepo.cli.parsing import parse
from sepo.objectives.algorithms import OF_SOFT_REWARDS
from sepo.samplers.guided import SOFT
from sepo.tasks import Measured
from sepo.training import SEPOConfig
from sepo.training.config import layout_of


def require_stages(what: Design, task: Measured) -> None:
    """
    Raises:
        UsageError: a stage has no such option, or a value is of another type.
        ValueError: a value does not fit; or a gradient is followed that the reward does not have.
    """
    if what.generator is None:
        _require("pretrain", what, PRETRAINING, pretraining_words)
    if what.sft is not None:
        _require("sft_kwargs", what, PRETRAINING, supervised_words)
    _require("finetune", what, FINETUNING, finetuning_words)
    _require_gradient(what, task)


def _require(option: str, what: Design, command: Training, words: Callable[[Design], list[str]]) -> None:
    with _said_of(f"Of the options --{option}.*: "):
        for made in command.options(parse(command.grammar, words(what))):
            if isinstance(made, SEPOConfig):
                layout_of(made, world=1, rank=0)


@contextmanager
def _said_of(where: str) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}{error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}{error}") from error


def _require_gradient(what: Design, task: Measured) -> None:
    given = what.finetune or {}
    follow = {"guidance": (what.guidance, SOFT)}
    if given.get("reward") is None:
        names = {"algorithm": OF_SOFT_REWARDS, "rollout_guidance": SOFT}
        follow |= {f"finetune.{name}": (given.get(name), soft) for name, soft in names.items()}
    asked = [f"{option}={name!r}" for option, (name, soft) in follow.items() if name in soft]
    if asked and what.reward_oracle is not None and task.soft_reward(torch.device("cpu")) is None:
        raise ValueError(
            f"{asked[0]} follows the gradient of the reward, and reward_oracle={what.reward_oracle!r} has none: leave "
            "it out, name a .ckpt of gReLU, a folder of oracles or a class with a method soft(one-hot rows), or choose "
            "best_of_n, svdd or smc, or another algorithm."
        )
