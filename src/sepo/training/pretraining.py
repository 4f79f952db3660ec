"""Pretraining and supervised fine-tuning: a transformers.Trainer on the denoising loss, with an average of the weights.

One loss for every process: the score entropy, in the count form of low variance where process and network allow it
(`sepo.diffusion.likelihood.denoising_loss`). The evaluation is the bound on held-out data.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.likelihood import denoising_loss
from sepo.diffusion.process import Process
from sepo.models import denoiser_for
from sepo.ops import Chance
from sepo.runs import RunFolder
from sepo.training.callbacks import StopOnInterrupt, WriteMetrics
from sepo.training.checkpoint import asked_for, open_folder
from sepo.training.evaluation import require_rows
from sepo.training.examples import Examples, require_known, rows_of
from sepo.training.finite import FiniteGuard
from sepo.training.launch import require_one_device, require_unsharded
from sepo.training.ledger import Ledger
from sepo.training.method import pretraining
from sepo.training.policy import lengths_of
from sepo.training.publishing import PublishingTrainer, Subject
from sepo.training.rows import Row, Rows, number_of

EMA, LEDGER = "ema.safetensors", "ledger.json"
ADVICE = "A lower learning_rate or max_grad_norm usually helps; look at half precision, and at the data of that step."


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
    logging_nan_inf_filter: bool = False

    def __post_init__(self) -> None:
        require_unsharded(self)
        super().__post_init__()
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(
                f"ema={self.ema}: the decay must lie between 0 and 1, such as 0.999; None switches it off."
            )
        if self.draws < 1 or self.bound_draws < 1:
            raise ValueError(f"draws={self.draws}, bound_draws={self.bound_draws}: each must be at least 1.")


class PretrainTrainer(PublishingTrainer):
    """Trains `policy` on rows (see `Examples`); after `train()` its network holds the averaged weights."""

    args: PretrainConfig

    def __init__(
        self,
        model: Denoiser | PreTrainedModel,
        args: PretrainConfig,
        train_dataset: Rows | Canvas,
        eval_dataset: Rows | Canvas | Mapping[str, Rows] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        require_one_device(args)
        train_dataset = rows_of(train_dataset) if isinstance(train_dataset, Canvas) else train_dataset
        eval_dataset = rows_of(eval_dataset) if isinstance(eval_dataset, Canvas) else eval_dataset
        if number_of(train_dataset) == 0:
            raise ValueError("train_dataset is empty: give at least one sequence.")
        self.policy = model if isinstance(model, Denoiser) else denoiser_for(model, processing_class)
        lengths = lengths_of(self.policy)
        examples = Examples(processing_class, lengths[-1])
        self.collate = Collate(examples, self.policy.process, lengths)
        super().__init__(
            model=self.policy.network,
            args=args,
            train_dataset=train_dataset,  # type: ignore[arg-type]
            eval_dataset=eval_dataset,  # type: ignore[arg-type]
            data_collator=self.collate,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.run_folder = RunFolder(Path(str(args.output_dir)))
        self.ledger, self.losses = Ledger(), Ledger()
        self.interrupt = StopOnInterrupt(self._on_any_process)
        self.guard = FiniteGuard(self.policy.network, self.run_folder.path, ADVICE)
        self.average = None if args.ema is None else Average(self.policy.network, args.ema)
        ours = (self.interrupt, self.guard, WriteMetrics(self.run_folder), *([self.average] if self.average else []))
        for callback in ours:
            self.add_callback(callback)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As in transformers; True finds the last complete checkpoint. At the end the weights are the averaged ones.

        Raises:
            ValueError: there is nothing to resume from, or what there is does not fit.
            NonFiniteError: a loss or gradient is not finite.
            OSError: a file could not be written.
        """
        checkpoint = asked_for(resume_from_checkpoint, self.run_folder.path)
        if checkpoint is None:
            self._restart()
        else:
            self._restore(checkpoint)
        if self.accelerator.is_main_process:
            open_folder(self.run_folder, checkpoint, self.args.to_sanitized_dict())
        with self.interrupt.listening():
            output = super().train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint), **kwargs)
        if self.average is not None:
            self.policy.network.load_state_dict(self.average.network.state_dict())
        return output

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """None after the last step: a finished run that is resumed is finished."""
        count = num_batches if self.state.global_step < self.state.max_steps else 0
        batches, number = super().get_batch_samples(epoch_iterator, count, device)
        self.guard.inputs = batches
        return batches, number

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Nats per site that is learned, averaged over sequences."""
        canvas = Canvas(**inputs)
        loss = self._per_site(self.policy.on(model), canvas, self._chance(len(canvas)), self.args.draws).mean()
        self.guard.watch(loss, inputs)
        self.ledger.note({"loss": loss})
        self.losses.note({"train_loss": loss})
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Loss and train_loss are ours: they outlive a resume."""
        for name, ledger in (("loss", self.ledger), ("train_loss", self.losses)):
            if name in logs:
                noted = [ledger.settle()]
                logs.update(Ledger.mean_of(gather_object(noted) if self.accelerator.num_processes > 1 else noted))
        super().log(logs, start_time)

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The bound on -log p of held-out data in nats per site (`bound`), and its exponential (`perplexity`).

        Of a dictionary of datasets, each under its own name.

        Raises:
            ValueError: there are no rows.
        """
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, Mapping):
            parts = [self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}") for name, part in rows.items()]
            return {name: value for part in parts for name, value in part.items()}
        require_rows(rows)
        policy = self.policy if self.average is None else self.policy.on(self.average.network)
        values = []
        with evaluating(policy.network):
            for start in range(0, len(rows), self.args.per_device_eval_batch_size):
                part = [rows[i] for i in range(start, min(start + self.args.per_device_eval_batch_size, len(rows)))]
                canvas = Canvas(**self.collate(part)).to(self.args.device)
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

    def _on_any_process(self, flag: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return flag
        gathered: Any = self.accelerator.gather(torch.tensor([flag], device=self.args.device))
        return bool(gathered.any())

    def subject(self) -> Subject:
        """What the model card tells."""
        return Subject(self.policy, pretraining(self.args))

    def _save_rng_state(self, output_dir: str) -> None:
        """Called before trainer_state.json, which marks the checkpoint complete."""
        super()._save_rng_state(output_dir)
        folder = Path(output_dir)
        noted = {"ledger": self.ledger.state(), "losses": self.losses.state()}
        (folder / f"{self.args.process_index}_{LEDGER}").write_text(json.dumps(noted))
        if self.accelerator.is_main_process and self.average is not None:
            save_model(self.average.network, str(folder / EMA))
        self.accelerator.wait_for_everyone()

    def _restart(self) -> None:
        """A new run: nothing noted, and the average begins with the weights as they are."""
        self.ledger.settle()
        self.losses.settle()
        if self.average is not None:
            self.average.network.load_state_dict(self.policy.network.state_dict())

    def _restore(self, folder: Path) -> None:
        noted = folder / f"{self.args.process_index}_{LEDGER}"
        if not noted.is_file() or (self.average is not None and not (folder / EMA).is_file()):
            raise ValueError(
                f"{folder} cannot be resumed: it lacks {noted.name} or {EMA}. It was saved with save_only_model=True, "
                "ema=None or by fewer processes; resume as it was saved, or start a new run from its weights."
            )
        stored = json.loads(noted.read_text())
        self.ledger.restore(stored["ledger"])
        self.losses.restore(stored["losses"])
        if self.average is not None:
            load_model(self.average.network, folder / EMA)

    def _load_best_model(self) -> None:
        """The averaged weights of the best checkpoint too: they are what was evaluated."""
        super()._load_best_model()
        if self.average is not None:
            load_model(self.average.network, Path(str(self.state.best_model_checkpoint)) / EMA)


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
class Collate:
    """Rows to the dict of tensors that transformers moves to the device, after a check that they fit the model."""

    examples: Examples
    process: Process
    lengths: range

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        canvas = self.examples(rows)
        require_known(canvas, self.process, self.lengths)
        return canvas.tensors()
