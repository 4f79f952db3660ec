"""Small runs that train in seconds: networks, rewards, tokenizers, and what a run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from sepo import PretrainConfig, PretrainTrainer, SEPOConfig, SEPOTrainer
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Process, Uniform
from sepo.models import as_denoiser
from sepo.models.networks.positions import Learned, Rotary
from sepo.models.networks.transformer import Transformer, TransformerConfig

LETTERS, MASK, LENGTH = 4, 4, 6
CLOCK = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")
"""What a log line says of the wall clock; all else must be the same in a run that was resumed."""

WORDS = (
    *("the", "cat", "dog", "sat", "ran", "on", "a", "mat", "red", "big", "yes", "no"),
    *("1", "2", "user", "assistant", ":"),
)
SPECIAL = ("[PAD]", "[MASK]", "[EOS]", "[UNK]")
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant :' }}{% endif %}"
)
ARGUMENTS = (
    *("eval_dataset", "processing_class", "reward_processing_classes", "callbacks", "optimizers", "peft_config"),
    *("algorithm", "sampler", "objective", "advantage", "reference"),
)


def network(seed: int = 0, **changes: Any) -> Transformer:
    """A tiny transformer that is neither silent nor certain."""
    options = {
        "vocab_size": LETTERS + 1,
        "position": Learned(LENGTH),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        made = Transformer(TransformerConfig(**{**options, **changes}))
        made.head.weight.normal_(std=0.1)
    return made


def policy(process: Process | None = None, length: int | None = None, **changes: Any) -> Denoiser:
    return as_denoiser(network(**changes), process or Absorbing(LETTERS + 1, mask=MASK), length=length)


def uniform_policy() -> Denoiser:
    return policy(Uniform(LETTERS), vocab_size=LETTERS, time_conditioning=True)


def ones(completions: list[Any], **columns: Any) -> list[float]:
    """The share of ones in each array."""
    return [float((completion == 1).mean()) for completion in completions]


def config(folder: Path, **changes: Any) -> SEPOConfig:
    options = {
        "max_steps": 4,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "learning_rate": 0.02,
        "logging_steps": 1,
        "states": 2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return SEPOConfig(str(folder), **as_floats({**options, **changes}))


def as_floats(options: dict[str, Any]) -> dict[str, Any]:
    """Whole numbers where transformers writes `float`, which the type checker of the tests takes by the word."""
    whole = ("logging_steps", "save_steps", "eval_steps", "num_train_epochs", "max_grad_norm", "beta")
    return {name: float(value) if name in whole else value for name, value in options.items()}


def trainer(
    folder: Path, model: Denoiser | None = None, reward: Any = ones, rows: Any = None, **changes: Any
) -> SEPOTrainer:
    """A run on a tiny transformer; `changes` are options of SEPOConfig, or arguments of SEPOTrainer."""
    objects = {name for name in ARGUMENTS if name in changes and not isinstance(changes[name], str)}
    given = {name: changes.pop(name) for name in objects}
    return SEPOTrainer(
        model=policy() if model is None else model,
        reward_funcs=reward,
        args=config(folder, **changes),
        train_dataset=rows,
        **given,
    )


def twos(completions: list[Any], **columns: Any) -> list[float]:
    return [2.0] * len(completions)


def clues(number: int = 4, length: int = LENGTH) -> list[dict[str, Any]]:
    """Rows with their first two tokens given, and a column for the reward."""
    free = [site > 1 for site in range(length)]
    return [{"tokens": [row % LETTERS, 1] + [0] * (length - 2), "free": free, "answer": row} for row in range(number)]


def sequences(number: int = 32, length: int = LENGTH, letters: int = LETTERS) -> Canvas:
    """Data with a pattern: each letter is the one before, or the next."""
    generator = torch.Generator().manual_seed(3)
    steps = torch.randint(0, 2, (number, length), generator=generator)
    tokens = steps.cumsum(1) % letters
    return Canvas(tokens, torch.ones_like(tokens, dtype=torch.bool))


def pretrainer(folder: Path, model: Denoiser | None = None, data: Any = None, **changes: Any) -> PretrainTrainer:
    """A pretraining run; `changes` are options of PretrainConfig, or arguments of PretrainTrainer."""
    objects = ("eval_dataset", "processing_class", "callbacks")
    given = {name: changes.pop(name) for name in objects if name in changes}
    options = {
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    args = PretrainConfig(str(folder), **as_floats({**options, **changes}))
    return PretrainTrainer(policy() if model is None else model, args, sequences() if data is None else data, **given)


def tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """One token per word."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", mask_token="[MASK]", eos_token="[EOS]", unk_token="[UNK]"
    )
    if chat:
        made.chat_template = TEMPLATE
    return made


def text_policy(words: PreTrainedTokenizerFast, length: int | None = None) -> Denoiser:
    """A transformer of any length over the words of the tokenizer, which may draw the end of a text."""
    size, mask = len(words), int(words.mask_token_id)
    return policy(Absorbing(size, mask=mask), length, vocab_size=size, position=Rotary())


def bert(words: PreTrainedTokenizerFast, seed: int = 0) -> BertForMaskedLM:
    options = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForMaskedLM(options)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def optimizer_state(folder: Path) -> dict[str, torch.Tensor]:
    stored = torch.load(folder / "optimizer.pt", weights_only=True)
    return {
        f"{place}.{name}": torch.as_tensor(value)
        for place, each in stored["state"].items()
        for name, value in each.items()
    }


def lines(folder: Path, clock: bool = False) -> list[dict[str, Any]]:
    """metrics.jsonl, without what depends on the wall clock."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return found if clock else [{name: line[name] for name in line if name not in CLOCK} for line in found]


def raised(kind: type[BaseException], action: Callable[[], Any]) -> str:
    """The message of the error that `action` raises."""
    try:
        action()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__} was raised")
