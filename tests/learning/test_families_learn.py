"""Every family of published checkpoints learns a reward, with all weights and with adapters, and is saved as it is.

Each is opened from the form that it has on disk. The reference weights are waves, so that every matrix has rank two and
adapters, behind a frozen head, can move little: adapters are trained on networks with normal weights, published anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sepo import SEPOTrainer
from sepo.diffusion.denoiser import Denoiser
from sepo.models import FAMILIES, family_of, load, save_published, tokenizer_for
from sepo.models.masked_lm import CLS, EOS, RESIDUES
from sepo.ops import Chance
from sepo.samplers import FirstHitting, roll
from tests.models import published
from tests.training.toys import WORDS, bert, config, lines, tokenizer

pytestmark = pytest.mark.slow

LENGTH = 8
PROMPTS = [{"prompt": text} for text in ("the cat", "a big red dog", "the mat", "yes")]
GIVEN = [
    {"tokens": [row, 2 * row + 1] + [0] * LENGTH, "free": [False] * 2 + [True] * LENGTH, "row": row} for row in range(4)
]


def a_third(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """The share of free sites whose token is 1 modulo 3."""
    return [sum(token % 3 == 1 for token in tokens) / len(tokens) for tokens in completion_ids]


def normal(network: nn.Module, size: float) -> None:
    """Matrices as after some training, far from zero."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.copy_(size * torch.randn(weight.shape, generator=random))


def of_layout(layout: str, length: int | None = None) -> Callable[[Path, bool], Denoiser]:
    def opened(folder: Path, adapters: bool) -> Denoiser:
        policy = load(published.write(layout, folder / "published"))
        if adapters:
            normal(policy.network, 0.2)
            save_published(policy, folder / "normal", layout)
            policy = load(folder / "normal")
        return policy if length is None else replace(policy, length=length)

    return opened


def dna(folder: Path, adapters: bool) -> Denoiser:
    return replace(load(published.write("dna_cnn", folder), pickles=True), length=LENGTH)


def stock_bert(folder: Path, adapters: bool) -> Denoiser:
    words = tokenizer()
    network = bert(words)
    normal(network, 0.4)
    network.save_pretrained(folder / "bert")
    words.save_pretrained(folder / "bert")
    return load(folder / "bert")


def diffusion_gemma(folder: Path, adapters: bool) -> Denoiser:
    tiny = pytest.importorskip("tests.models.tiny_gemma")
    network = tiny.diffusion_gemma(24, LENGTH)
    normal(network, 0.4)
    network.save_pretrained(folder / "gemma")
    return load(folder / "gemma")


def converted_gpt2(folder: Path, adapters: bool) -> Denoiser:
    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[EOS]", "[UNK]", *WORDS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    words = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    sizes = {"n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 2}
    ends = {"bos_token_id": None, "eos_token_id": words.eos_token_id}
    network = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), **sizes, **ends))
    normal(network, 0.4)
    network.save_pretrained(folder / "gpt2")
    words.save_pretrained(folder / "gpt2")
    return load(folder / "gpt2", convert=True)


@dataclass(frozen=True)
class Case:
    """rows: None: without prompts; words: folder of the tokenizer; layers: of the adapters, None: those that the family
    or PEFT names. With all weights and with adapters: steps; rise: of the mean reward at least."""

    opened: Callable[[Path, bool], Denoiser]
    rows: list[dict[str, Any]] | None = None
    words: str | None = None
    layers: tuple[str, ...] | None = None
    steps: tuple[int, int] = (14, 18)
    rise: tuple[float, float] = (0.3, 0.15)


CASES = {
    "sedd": Case(of_layout("sedd")),
    "mdlm": Case(of_layout("mdlm")),
    "udlm": Case(of_layout("udlm")),
    "dna_cnn": Case(dna, steps=(8, 8)),
    "dplm": Case(of_layout("dplm", LENGTH), layers=("query", "value", "dense")),
    "llada": Case(of_layout("llada"), GIVEN),
    "dream": Case(of_layout("dream"), GIVEN),
    "bert": Case(stock_bert, PROMPTS, "bert"),
    "diffusion_gemma": Case(diffusion_gemma, GIVEN),
    "gpt2": Case(converted_gpt2, PROMPTS, "gpt2"),
}


def adapters_of(case: Case, policy: Denoiser) -> Any:
    layers = case.layers or FAMILIES[family_of(policy.network)].lora
    targets = layers if isinstance(layers, str) else list(layers) or None
    return pytest.importorskip("peft").LoraConfig(r=4, lora_alpha=16, target_modules=targets)


def fine_tuned(
    name: str, folder: Path, adapters: bool = False, seed: int = 0, reward: Any = a_third, **changes: Any
) -> SEPOTrainer:
    case = CASES[name]
    folder.mkdir()
    policy = case.opened(folder, adapters)
    options = {
        "max_steps": case.steps[adapters],
        "per_device_train_batch_size": 32,
        "num_generations": 8,
        "states": 4,
        "sampling_steps": LENGTH // 2,
        "max_completion_length": LENGTH,
        "learning_rate": 0.04 if adapters else 0.02,
        "seed": seed,
    }
    trainer = SEPOTrainer(
        policy,
        reward,
        config(folder / "run", **{**options, **changes}),
        case.rows,
        processing_class=tokenizer_for(folder / case.words) if case.words else None,
        peft_config=adapters_of(case, policy) if adapters else None,
    )
    trainer.train()
    return trainer


def rewards(folder: Path) -> tuple[float, float]:
    """At the first two steps, and at the last three."""
    found = [line["reward"] for line in lines(folder / "run") if "reward" in line]
    return sum(found[:2]) / 2, sum(found[-3:]) / 3


@torch.no_grad()
def require_same(saved: Denoiser, trained: SEPOTrainer, name: str) -> None:
    policy, canvas = trained.policy, trained.collector.prompts.canvas(CASES[name].rows or [{}] * 4)
    half = torch.full((len(canvas),), 0.5)
    xt = policy.process.corrupt(canvas.tokens, half, canvas.free, Chance.of(0, len(canvas)))
    policy.network.eval()
    assert torch.equal(saved.raw_logits(xt, half, canvas.attend), policy.raw_logits(xt, half, canvas.attend))
    for what in ("process", "meaning", "banned", "time_free", "length", "frame"):
        assert getattr(saved, what) == getattr(policy, what), what


@pytest.mark.parametrize("adapters", [False, True], ids=["all-weights", "adapters"])
@pytest.mark.parametrize("name", CASES)
def test_the_reward_rises_and_what_is_saved_is_what_was_trained(name: str, adapters: bool, tmp_path: Path) -> None:
    for seed in (0, 1):
        folder, started = tmp_path / str(seed), time.process_time()
        trained = fine_tuned(name, folder, adapters, seed)
        before, after = rewards(folder)
        print(f"{name}, seed {seed}: reward {before:.2f} -> {after:.2f}, {time.process_time() - started:.1f} s of CPU")
        assert after - before > CASES[name].rise[adapters]
        trained.save_model(str(folder / "saved"))
        require_same(load(folder / "saved"), trained, name)


def test_proteins_are_amino_acids_between_cls_and_eos_all_along_and_after_it(tmp_path: Path) -> None:
    seen: list[Any] = []

    def reward(completions: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        seen.extend(completions)
        return a_third(completion_ids)

    trained = fine_tuned("dplm", tmp_path / "dplm", reward=reward, max_steps=6)
    trained.save_model(str(tmp_path / "saved"))
    canvas = trained.collector.prompts.canvas([{}] * 64)
    drawn = roll(FirstHitting(), load(tmp_path / "saved"), canvas, Chance.of(0, 64)).x0
    for rows in (torch.as_tensor(np.stack(seen)), drawn):
        assert rows.shape[1] == LENGTH + 2 and (rows[:, 0] == CLS).all() and (rows[:, -1] == EOS).all()
        assert torch.isin(rows[:, 1:-1], torch.tensor(RESIDUES)).all()
