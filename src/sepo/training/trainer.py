"""SEPOTrainer:

a transformers.Trainer whose data are experience. It logs, saves, resumes and evaluates; the parts do the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback

from sepo.diffusion.denoiser import Denoiser, Meter
from sepo.models import tokenizer_for, write_metadata
from sepo.objectives import Advantage, Objective
from sepo.runs import RunFolder, print_completions, resume_run, start_run, write_completions
from sepo.samplers import Sampler
from sepo.training.callbacks import FollowPolicy, StopOnInterrupt, WriteMetrics
from sepo.training.checkpoint import last_complete, load_reference, load_stream, save_reference, save_stream
from sepo.training.collector import Collected, Collector, alone
from sepo.training.config import SEPOConfig, build_advantage, build_objective, build_sampler
from sepo.training.evaluation import rewards_on
from sepo.training.experience import Experience
from sepo.training.finite import require_finite
from sepo.training.layout import Layout
from sepo.training.ledger import Ledger
from sepo.training.policy import as_policy, freeze_dropout, reference_for, rewards_for
from sepo.training.prompts import Row, prompts_for
from sepo.training.records import completions_table
from sepo.training.reference import Reference, Synced
from sepo.training.stream import ExperienceStream


class SEPOTrainer(Trainer):
    """Fine-tunes a discrete diffusion model on rewards with SEPO (arXiv 2502.01384).

    Args:
        model: a folder or hub id, a `Denoiser`, or a network that `sepo.load` would have made.
        reward_funcs: a callable with TRL's signature, a sequence-classification model or its id, or a list of these.
        args: `SEPOConfig`; None: its defaults with output_dir "sepo-output".
        train_dataset: rows with "prompt" (text or messages) or "tokens" and "free"; other columns go to the rewards.
            None: sequences without prompts, of the model's length, which all are one group.
        eval_dataset: rows of the same kind.
        processing_class: the tokenizer; None: that of the model's folder, if it has one.
        reward_processing_classes: tokenizers of reward models.
        callbacks, optimizers: as in `transformers.Trainer`.
        peft_config: trains adapters; the reference is then the model with its adapters off.
        sampler, objective, advantage, reference: objects in place of what `args` describes.
    """

    args: SEPOConfig
    _tag_names: ClassVar[list[str]] = ["sepo", "reinforcement-learning", "discrete-diffusion"]

    def __init__(
        self,
        model: str | Denoiser | PreTrainedModel,
        reward_funcs: Any,
        args: SEPOConfig | None = None,
        train_dataset: Sequence[Row] | None = None,
        eval_dataset: Sequence[Row] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_processing_classes: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
        sampler: Sampler | None = None,
        objective: Objective | None = None,
        advantage: Advantage | None = None,
        reference: Reference | None = None,
    ) -> None:
        args = args or SEPOConfig("sepo-output")
        if processing_class is None and isinstance(model, str):
            processing_class = tokenizer_for(model)
        policy = as_policy(model, processing_class, args, peft_config)
        if args.disable_dropout:
            freeze_dropout(policy.network)
        super().__init__(
            model=policy.network,
            args=args,
            eval_dataset=eval_dataset,  # type: ignore[arg-type]
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.objective = objective or build_objective(args)
        self.reference = reference or reference_for(policy, args, self.objective)
        self.collector = Collector(
            policy=policy,
            sampler=sampler or build_sampler(args),
            objective=self.objective,
            advantage=advantage or build_advantage(args),
            rewards=rewards_for(reward_funcs, args, reward_processing_classes).to(self.args.device),
            prompts=prompts_for(train_dataset, processing_class, args.max_completion_length, policy.length),
            seed=args.seed,
            group=args.num_generations,
            beta=args.beta,
            reference=self.reference,
            gather=self._gather if self.accelerator.num_processes > 1 else alone,
        )
        self.stream = ExperienceStream(
            self.collector, self._layout(args), train_dataset, args.shuffle_dataset, self._note, lambda: self.state
        )
        if train_dataset is None and args.max_steps <= 0:
            raise ValueError(
                "Without a train_dataset there are no epochs: set max_steps to the number of optimizer steps."
            )
        self.ledger = Ledger()
        self.run_folder = RunFolder(Path(str(args.output_dir)))
        self.interrupt = StopOnInterrupt()
        self.add_callback(self.interrupt)
        self.add_callback(WriteMetrics(self.run_folder))
        if isinstance(self.reference, Synced):
            self.add_callback(FollowPolicy(self.reference, policy.network))
        self._latest: Collected | None = None
        self._inputs: list[Experience] = []

    @property
    def policy(self) -> Denoiser:
        """The policy on the network that is being trained, outside DDP."""
        return self.collector.policy

    # ------------------------------------------------------------------------------------------------ training
    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As in transformers. `resume_from_checkpoint=True` finds the last complete checkpoint of output_dir.

        Raises:
            ValueError: there is nothing to resume from.
            NonFiniteError: a loss or gradient is not finite.
        """
        checkpoint = self._checkpoint(resume_from_checkpoint)
        if self.accelerator.is_main_process:
            if checkpoint is None:
                start_run(self.run_folder.path, self.args.to_sanitized_dict())
            else:
                resume_run(self.run_folder, int(checkpoint.name.split("-")[-1]))
        if checkpoint is not None:
            self._restore(checkpoint)
        with self.interrupt.listening():
            return super().train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint), **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """The stream itself, not prepared: accelerate would look one batch ahead, and rollouts would be a step old."""
        return DataLoader(self.stream, batch_size=None, collate_fn=_identity)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, None]:
        self._inputs = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        return self._inputs, None

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The objective at the views of a micro-batch of `Experience`."""
        new = self.objective.read(self.policy.on(model), inputs.views)
        reference = None
        if self.objective.uses_reference and self.reference is not None:
            with torch.no_grad(), self.reference.policy(self.policy) as policy:
                reference = self.objective.read(policy, inputs.views)
        loss = self.objective.loss(new, inputs.old_reading(new), reference, inputs.advantage, inputs.views)
        self.ledger.note({"loss": loss.value.item(), **{name: value.item() for name, value in loss.metrics.items()}})
        self._require_finite("loss", loss.value.item(), [inputs])
        return loss.value

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16:
            self._require_finite("gradient norm", float(norm), self._inputs)
        return norm

    def _require_finite(self, what: str, value: float, inputs: list[Experience]) -> None:
        require_finite(what, value, inputs, self.run_folder.path, self.state.global_step, self.args.process_index)

    # ------------------------------------------------------------------------------------------------- logging
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = {**logs, **self._settled()}
            self._show_completions()
        super().log(logs, start_time)

    def _settled(self) -> dict[str, float]:
        """What the ledgers of all processes hold, and the evaluations so far.

        The loss is ours: it outlives a resume.
        """
        meter = self.policy.meter
        noted = [self.ledger.settle()]
        spent = torch.tensor([[meter.evaluations, meter.with_gradient]], device=self.args.device)
        evaluations, with_gradient = self.collector.gather(spent).sum(0).tolist()
        means = Ledger.mean_of(gather_object(noted) if self.accelerator.num_processes > 1 else noted)
        return {**means, "network_evaluations": evaluations, "network_evaluations_with_gradient": with_gradient}

    def _note(self, collected: Collected) -> None:
        self.ledger.note(collected.metrics)
        self._latest = collected

    def _show_completions(self) -> None:
        if self._latest is None or not self.accelerator.is_main_process:
            return
        table = completions_table(self._latest, self.state.global_step)
        if self.args.save_completions:
            write_completions(self.run_folder, table)
        if self.args.log_completions:
            print_completions(table, self.args.num_completions_to_print)
        self._latest = None

    # ------------------------------------------------------------------------------------------------ checkpoints
    def _checkpoint(self, asked: str | bool | None) -> Path | None:
        if asked is None or asked is False:
            return None
        found = last_complete(self.run_folder.path) if asked is True else Path(asked)
        if found is None:
            raise ValueError(
                f"There is no complete checkpoint in {self.args.output_dir} to resume from; train without resuming."
            )
        if not found.is_dir():
            raise ValueError(
                f"resume_from_checkpoint={str(asked)!r} is not a folder; give a checkpoint-N folder, or True for the "
                "last."
            )
        return found

    def _save_rng_state(self, output_dir: str) -> None:
        """Called before trainer_state.json, which marks the checkpoint complete."""
        super()._save_rng_state(output_dir)
        folder = Path(output_dir)
        position, tensors = self.stream.state()
        meter = self.policy.meter
        state = {
            "position": position,
            "ledger": self.ledger.state(),
            "meter": {"evaluations": meter.evaluations, "with_gradient": meter.with_gradient},
        }
        save_stream(folder, self.args.process_index, state, tensors)
        if self.accelerator.is_main_process and self.reference is not None and self.reference.network is not None:
            save_reference(folder, self.reference.network)
        self.accelerator.wait_for_everyone()

    def _restore(self, folder: Path) -> None:
        state, tensors = load_stream(folder, self.args.process_index)
        self.stream.restore(state["position"], tensors)
        self.ledger.restore(state["ledger"])
        meter: Meter = self.policy.meter
        meter.evaluations, meter.with_gradient = state["meter"]["evaluations"], state["meter"]["with_gradient"]
        if self.reference is not None and self.reference.network is not None:
            load_reference(folder, self.reference.network)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            write_metadata(self.policy, output_dir or self.run_folder.path)

    # ------------------------------------------------------------------------------------------------- evaluation
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean rewards on the rows of eval_dataset, num_generations_eval sequences each; shared among the processes.

        Raises:
            ValueError: there are no rows.
        """
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        group = self.args.num_generations_eval or self.args.num_generations
        at_once = max(self.args.per_device_eval_batch_size // group, 1)
        totals = rewards_on(rows, self.collector, self.stream.layout, group, at_once, self.state)
        everyone = gather_object(totals) if self.accelerator.num_processes > 1 else totals
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in Ledger.mean_of(everyone).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _gather(self, values: Tensor) -> Tensor:
        gathered: Any = self.accelerator.gather(values)
        return gathered

    def _layout(self, args: SEPOConfig) -> Layout:
        return Layout(
            micro=args.per_device_train_batch_size,
            group=args.num_generations,
            accumulation=args.gradient_accumulation_steps,
            per_collection=args.steps_per_generation or args.gradient_accumulation_steps,
            iterations=args.num_iterations,
            world=self.accelerator.num_processes,
            rank=self.accelerator.process_index,
        )


def _identity(value: Any) -> Any:
    return value
