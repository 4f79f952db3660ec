"""Pretraining and supervised fine-tuning: a transformers.Trainer on the denoising loss, with an average of the weights.

One loss for every process: the score entropy, in the count form of low variance where process and network allow it
(`sepo.diffusion.likelihood.denoising_loss`). The evaluation is the bound on held-out data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.likelihood import denoising_loss
from sepo.models import denoiser_for, write_metadata
from sepo.ops import Chance
from sepo.runs import RunFolder, resume_run, start_run
from sepo.training.callbacks import StopOnInterrupt, WriteMetrics
from sepo.training.checkpoint import last_complete
from sepo.training.examples import Examples, Row, rows_of

EMA = "ema.safetensors"


@dataclass
class PretrainConfig(TrainingArguments):
    """How to pretrain. Everything of `transformers.TrainingArguments`, and:

    Args:
        ema: decay per step of the averaged weights, which are evaluated and kept at the end; None: none.
        draws: noise levels per sequence and step.
        bound_draws: noise levels per sequence in the held-out bound.
    """

    learning_rate: float = 3e-4
    ema: float | None = 0.999
    draws: int = 1
    bound_draws: int = 8
    remove_unused_columns: bool | None = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(
                f"ema={self.ema}: the decay must lie between 0 and 1, such as 0.999; None switches it off."
            )
        if self.draws < 1 or self.bound_draws < 1:
            raise ValueError(f"draws={self.draws}, bound_draws={self.bound_draws}: each must be at least 1.")


class PretrainTrainer(Trainer):
    """Trains `policy` on rows (see `Examples`); after `train()` its network holds the averaged weights."""

    args: PretrainConfig

    def __init__(
        self,
        model: Denoiser | PreTrainedModel,
        args: PretrainConfig,
        train_dataset: Sequence[Row] | Canvas,
        eval_dataset: Sequence[Row] | Canvas | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        train_dataset = rows_of(train_dataset) if isinstance(train_dataset, Canvas) else train_dataset
        eval_dataset = rows_of(eval_dataset) if isinstance(eval_dataset, Canvas) else eval_dataset
        if len(train_dataset) == 0:
            raise ValueError("train_dataset is empty: give at least one sequence.")
        self.policy = model if isinstance(model, Denoiser) else denoiser_for(model, processing_class)
        self.examples = Examples(processing_class, self.policy.length)
        super().__init__(
            model=self.policy.network,
            args=args,
            train_dataset=train_dataset,  # type: ignore[arg-type]
            eval_dataset=eval_dataset,  # type: ignore[arg-type]
            data_collator=_Collate(self.examples),
            processing_class=processing_class,
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.run_folder = RunFolder(Path(str(args.output_dir)))
        self.interrupt = StopOnInterrupt()
        self.average = None if args.ema is None else Average(self.policy.network, args.ema)
        for callback in (self.interrupt, WriteMetrics(self.run_folder), *([self.average] if self.average else [])):
            self.add_callback(callback)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As in transformers; True finds the last complete checkpoint. At the end the weights are the averaged ones."""
        checkpoint = last_complete(self.run_folder.path) if resume_from_checkpoint is True else resume_from_checkpoint
        if self.args.process_index == 0:
            if checkpoint:
                resume_run(self.run_folder, int(Path(checkpoint).name.split("-")[-1]))
            else:
                start_run(self.run_folder.path, self.args.to_sanitized_dict())
        if checkpoint and self.average is not None:
            load_model(self.average.network, Path(checkpoint) / EMA)
        with self.interrupt.listening():
            output = super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None, **kwargs)
        if self.average is not None:
            self.policy.network.load_state_dict(self.average.network.state_dict())
        return output

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Nats per site that is learned, averaged over sequences."""
        canvas = Canvas(**inputs)
        return self._per_site(self.policy.on(model), canvas, self._chance(len(canvas)), self.args.draws).mean()

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The bound on -log p of held-out data in nats per site (`bound`), and its exponential (`perplexity`).

        Raises:
            ValueError: there are no rows.
        """
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if rows is None or len(rows) == 0:
            raise ValueError("There is nothing to evaluate on: pass an eval_dataset with at least one row.")
        policy = self.policy if self.average is None else self.policy.on(self.average.network)
        values = []
        with evaluating(policy.network):
            for start in range(0, len(rows), self.args.per_device_eval_batch_size):
                part = [rows[i] for i in range(start, min(start + self.args.per_device_eval_batch_size, len(rows)))]
                canvas = self.examples(part).to(self.args.device)
                chance = Chance.seeded(self.args.seed, [start], len(canvas), self.args.device, purpose=1)
                values.append(self._per_site(policy, canvas, chance, self.args.bound_draws))
        mean = torch.cat(values).mean().item()
        metrics = {f"{metric_key_prefix}_bound": mean, f"{metric_key_prefix}_perplexity": math.exp(min(mean, 700.0))}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _per_site(self, policy: Denoiser, canvas: Canvas, chance: Chance, draws: int) -> Tensor:
        loss = denoising_loss(policy, canvas.tokens, canvas.free, chance, canvas.attend, draws)
        return loss / canvas.free.sum(1).clamp_min(1)

    def _chance(self, batch: int) -> Chance:
        """Seeded from torch's generator, which a checkpoint keeps."""
        seed = int(torch.randint(2**62, ()))
        return Chance.seeded(seed, [self.args.process_index], batch, self.args.device)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.average is not None and self.args.should_save:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_model(self.average.network, str(Path(output_dir) / EMA))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            write_metadata(self.policy, output_dir or self.run_folder.path)


class Average(TrainerCallback):
    """An exponential moving average of the weights, faster at first: decay min(ema, (1 + step) / (10 + step))."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.source, self.decay = network, decay
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for kept, new in zip(self.network.parameters(), self.source.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
        for kept, new in zip(self.network.buffers(), self.source.buffers(), strict=True):
            kept.copy_(new)


@dataclass(frozen=True)
class _Collate:
    """Rows to the dict of tensors that transformers moves to the device."""

    examples: Examples

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        return self.examples(rows).tensors()
