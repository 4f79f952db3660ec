"""Runs that `torch.distributed.run` starts, on one process or on several: launched.py FOLDER CASE ..."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import LoraConfig

from sepo.training import PretrainTrainer, SEPOTrainer
from tests.training.toys import clues, ones, pretrainer, text_policy, tokenizer, trainer

PROMPTS = [{"prompt": text} for text in ("the cat", "a big red dog sat", "yes", "the mat", "no no no", "a dog ran on")]

ASKED: list[int] = []


def cats(completions: list[str], **columns: Any) -> list[float | None]:
    """A reward that does not apply to every completion."""
    return [None if text.startswith("the") else float(len(set(text.split()))) for text in completions]


CASES: dict[str, dict[str, Any]] = {
    "unconditional": {"beta": 0.05, "num_iterations": 2, "steps_per_generation": 4},
    "text": {"beta": 0.05, "text": True},
    "clues": {"rows": 6, "path_kl_coef": 0.05, "num_iterations": 2, "scale_rewards": "batch"},
    "fresh masks": {"reading": "fresh_masks", "num_iterations": 2, "beta": 0.05},
    "synced": {"sync_ref_model": True, "ref_model_sync_steps": 2, "beta": 0.05, "rows": 6},
    "checkpointing": {"gradient_checkpointing": True, "rows": 6},
    "lora": {"beta": 0.05, "rows": 6, "lora": True},
    "critic": {"use_critic": True, "beta": 0.05, "num_iterations": 2, "cliprange_value": 0.2, "rows": 6},
    "critic along the path": {"use_critic": True, "gae_lambda": 0.9, "whiten_advantages": True, "beta": 0.05},
    "critic checkpointing": {"use_critic": True, "gradient_checkpointing": True, "rows": 6},
    "critic lora": {"use_critic": True, "beta": 0.05, "rows": 6, "lora": True},
    "target": {"beta": 0.05, "target_kl": 0.02, "kl_gain": 1.0},
    "evaluated": {"rows": 6, "eval_dataset": clues(5), "eval_strategy": "steps", "eval_steps": 2},
}


def made(folder: Path, case: str, world: int, **more: Any) -> SEPOTrainer:
    """The same run on one process and on several: a micro-batch of all has 16 sequences, a step two of them."""
    options = {"max_steps": 6, "gradient_accumulation_steps": 2, "learning_rate": 0.02, **CASES[case], **more}
    sizes = {"per_device_train_batch_size": 16 // world, "ddp_backend": "gloo" if world > 1 else None}
    rows = options.pop("rows", None)
    torch.manual_seed(0)
    if options.pop("lora", False):
        options["peft_config"] = LoraConfig(target_modules=["qkv", "out"], r=2, init_lora_weights=False)
    if not options.pop("text", False):
        return trainer(folder, reward=ones, rows=None if rows is None else clues(rows), **options, **sizes)
    words = tokenizer()
    options |= {"processing_class": words, "max_completion_length": 3}
    return trainer(folder, text_policy(words), cats, PROMPTS, **options, **sizes)


def interrupting(completions: list[Any], **columns: Any) -> list[float]:
    """Ctrl-C in the third collection, heard by the second process alone."""
    ASKED.append(1)
    if len(ASKED) == 3 and PartialState().process_index == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return ones(completions)


def run(folder: Path, case: str, world: int, resume: bool = False) -> None:
    each: SEPOTrainer | PretrainTrainer
    if case == "pretraining":
        sizes = {"per_device_train_batch_size": 8 // world, "ddp_backend": "gloo" if world > 1 else None}
        each = pretrainer(folder, save_strategy="steps", save_steps=4, **sizes)
    elif case == "interrupted":
        sizes = {"per_device_train_batch_size": 8, "ddp_backend": "gloo"}
        each = trainer(folder, reward=interrupting, max_steps=6, **sizes)
    elif case == "resumed":
        each = made(folder, "unconditional", world, save_strategy="steps", save_steps=2)
    else:
        each = made(folder, case, world)
    each.train(resume_from_checkpoint=resume)
    if each.accelerator.is_main_process:
        torch.save({name: weight.clone() for name, weight in each.model.state_dict().items()}, folder / "weights.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    root, *cases = sys.argv[1:]
    for case in cases:
        name, _, how = case.partition(":")
        run(Path(root) / name, name, PartialState(cpu=True).num_processes, resume=how == "resume")
