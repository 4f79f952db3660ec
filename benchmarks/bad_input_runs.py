"""A run at toy size to be provoked: its model, its rewards, its rows, and what it told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sepo import PretrainConfig, PretrainTrainer, SEPOConfig, SEPOTrainer
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Uniform
from sepo.models import as_denoiser
from sepo.models.networks.positions import Learned
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.runs import RunFolder, read_metrics

LETTERS, MASK, LENGTH = 4, 4, 6
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """provoke: raises, or tells what happened instead. It gets an empty folder."""

    what: str
    provoke: Callable[[Path], str]


def told(action: Callable[[], str]) -> str:
    try:
        return action()
    except (Exception, KeyboardInterrupt) as error:
        message = " ".join(str(error).split())
        return f"`{type(error).__name__}`: {message}" if message else f"`{type(error).__name__}`, at once"


def policy(vocabulary: int = LETTERS + 1, length: int = LENGTH) -> Denoiser:
    settings = TransformerConfig(vocabulary, Learned(length), 16, 1, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return as_denoiser(Transformer(settings), Absorbing(vocabulary, mask=min(MASK, vocabulary - 1)))


def ones(completions: Sequence[Any], **columns: Any) -> list[float]:
    return [float(np.mean(np.asarray(completion) == 1)) for completion in completions]


def run(folder: Path, reward: Any = ones, rows: Any = None, model: Any = None, **changes: Any) -> SEPOTrainer:
    objects = {name: changes.pop(name) for name in ("processing_class", "callbacks") if name in changes}
    options = {"max_steps": 4, "num_generations": 4, "logging_steps": 1, "save_strategy": "no", "learning_rate": 0.01}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_completions": False}
    args = SEPOConfig(str(folder), **{**options, **quiet, **changes})
    return SEPOTrainer(policy() if model is None else model, reward, args, rows, **objects)


def pretrain(folder: Path, tokens: list[int]) -> PretrainTrainer:
    args = PretrainConfig(str(folder), max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True)
    return PretrainTrainer(policy(), args, [{"tokens": tokens}])


def clues(number: int) -> list[Row]:
    return [{"tokens": [row % LETTERS] + [0] * 5, "free": [False] + [True] * 5} for row in range(number)]


def words() -> PreTrainedTokenizerFast:
    vocabulary = {
        word: number
        for number, word in enumerate(["[PAD]", "[MASK]", "[EOS]", "[UNK]", "the", "cat", "sat", "on", "a", "mat"])
    }
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def logged(folder: Path, name: str) -> list[float]:
    return [line[name] for line in read_metrics(RunFolder(folder)) if name in line]


def uniform() -> Denoiser:
    settings = TransformerConfig(LETTERS, Learned(LENGTH), 16, 1, 2)
    return as_denoiser(Transformer(settings), Uniform(LETTERS))


def long_rows() -> list[Row]:
    return [{"tokens": [0] * 8, "free": [True] * 8}]


def uneven_rows() -> list[Row]:
    return [{**row, **({"answer": 1} if place == 0 else {})} for place, row in enumerate(clues(2))]


def full_rows() -> list[Row]:
    return [{"tokens": [0] * 6, "free": [False] * 6}]
