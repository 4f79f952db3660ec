"""The methods of the Ehrlich benchmark that fine-tune a diffusion model of feasible sequences, through SEPOTrainer.

A model is pretrained for each instance and length, once, by `sepo pretrain ehrlich`; that costs no reward calls.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from sepo import SEPOConfig, SEPOTrainer, load
from sepo.cli import pretrain
from sepo.cli.parsing import parse
from sepo.tasks.ehrlich import TRANSFORMS
from sepo.tasks.ehrlich_function import Ehrlich

FOLDER = Path("runs/ehrlich")
INFEASIBLE = -0.1
"""Reward of a sequence with a banned step; feasible ones of value 0 have 0."""


def pretrained(function: Ehrlich, folder: Path = FOLDER) -> Path:
    """The model of the chain, which depends on num_states, dim and random_seed alone."""
    path = folder / f"base_{function.dim}_{function.random_seed}"
    if not (path / "summary.json").is_file():
        chain = {"num_states": function.num_states, "dim": function.dim, "random_seed": function.random_seed}
        words = ["ehrlich", "--output_dir", str(path)]
        for name, value in chain.items():
            words += [f"--task.{name}", str(value)]
        if not pretrain.pretrain(parse(pretrain.GRAMMAR, words)).complete:
            raise SystemExit(130)
    return path


class Until(TrainerCallback):
    """Ends a run once its calls are spent or the optimum is found."""

    def __init__(self, counted: Any) -> None:
        self.counted = counted

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control.should_training_stop = self.counted.spent or self.counted.solved
        return control


@dataclass(frozen=True)
class Tuned:
    """batch: rollouts per collection; search: sequences drawn around elites beside them; options: of SEPOConfig."""

    batch: int
    search: int
    learning_rate: float
    replay: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, counted: Any, seed: int) -> np.ndarray:
        """counted: an Ehrlich function that remembers the value of every call."""
        function = counted.function

        def reward(completions: list[np.ndarray], **columns: Any) -> list[float]:
            values = counted(torch.from_numpy(np.stack(completions)).long())
            seen = TRANSFORMS["log"](values.double(), function.smallest)
            return seen.where(values > -torch.inf, INFEASIBLE).tolist()

        uses = self.options.get("num_iterations", 1)
        replay = None if not self.search and not self.replay else {"search": self.search, **self.replay}
        with tempfile.TemporaryDirectory() as folder:
            args = SEPOConfig(
                folder,
                max_steps=-(-counted.budget // (self.batch + self.search)) * uses,
                per_device_train_batch_size=self.batch,
                num_generations=self.batch,
                learning_rate=self.learning_rate,
                lr_scheduler_type="constant",
                sampling_steps=8,
                replay_kwargs=replay,
                seed=seed,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                save_completions=False,
                **self.options,
            )
            SEPOTrainer(load(pretrained(function)), reward, args, callbacks=[Until(counted)]).train()
        return counted.curve[: counted.used]
