"""SEPOTrainer: a transformers.Trainer whose data are experience. It logs, saves, evaluates; the parts do the work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from sepo.diffusion.denoiser import Denoiser
from sepo.models import tokenizer_for
from sepo.models.critic import ActorWithCritic, load_critic
from sepo.objectives import Advantage, Objective
from sepo.objectives.algorithm import Algorithm
from sepo.rewards import Rewards
from sepo.runs import RunFolder
from sepo.samplers import Sampler
from sepo.training.building import Parts, build_parts
from sepo.training.callbacks import FollowPolicy, StopOnInterrupt, TimeSteps, WriteMetrics
from sepo.training.checkpoint import asked_for, open_folder
from sepo.training.collector import Collected, Collector, alone
from sepo.training.config import SEPOConfig, layout_of
from sepo.training.elites import Elites, with_replay
from sepo.training.evaluation import require_rows, rewards_on
from sepo.training.finite import ADVICE, FiniteGuard
from sepo.training.kl_control import KLControl
from sepo.training.launch import require_one_device
from sepo.training.ledger import Ledger
from sepo.training.method import fine_tuning
from sepo.training.policy import as_policy, prompts_through, reference_for, rewards_for
from sepo.training.progress import Progress
from sepo.training.prompts import Prompts, Text
from sepo.training.publishing import PublishingTrainer, Subject
from sepo.training.records import Showcase, completions_table
from sepo.training.reference import Reference, Synced
from sepo.training.rows import Rows
from sepo.training.stream import ExperienceStream


class SEPOTrainer(PublishingTrainer):
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
        algorithm: a published method with its options, in place of args.algorithm.
        sampler, objective, advantage, reference: objects in place of what `args` and the algorithm describe; a guided
            sampler where the algorithm reads no density.
    """

    args: SEPOConfig
    _tag_names: ClassVar[list[str]] = ["sepo", "reinforcement-learning", "discrete-diffusion"]

    def __init__(
        self,
        model: str | Denoiser | PreTrainedModel,
        reward_funcs: Any,
        args: SEPOConfig | None = None,
        train_dataset: Rows | None = None,
        eval_dataset: Rows | Mapping[str, Rows] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_processing_classes: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
        algorithm: Algorithm | None = None,
        sampler: Sampler | None = None,
        objective: Objective | None = None,
        advantage: Advantage | None = None,
        reference: Reference | None = None,
    ) -> None:
        args = args or SEPOConfig("sepo-output")
        require_one_device(args)
        if processing_class is None and isinstance(model, str):
            processing_class = tokenizer_for(model)
        policy = as_policy(model, processing_class, args, peft_config)
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
        self.train_dataset = train_dataset  # type: ignore[assignment]
        given = {"sampler": sampler, "objective": objective, "advantage": advantage}
        parts = build_parts(args, policy.process, algorithm, **given)
        self.method = fine_tuning(args, algorithm, **given, reference=reference)
        self.objective = parts.objective
        self.reference = reference or reference_for(policy, args, self.objective, parts.beta)
        rewards = rewards_for(reward_funcs, args, reward_processing_classes).to(self.args.device)
        prompts = self._prompts(train_dataset, policy, parts.sampler)
        self.collector = self._made_collector(parts, rewards, prompts, policy)
        self.run_folder = RunFolder(Path(str(args.output_dir)))
        self._prepare_stream(args, train_dataset)
        self._add_callbacks(policy)

    def _made_collector(self, parts: Parts, rewards: Rewards, prompts: Prompts, policy: Denoiser) -> Collector:
        gather: Any = self.accelerator.gather if self.accelerator.num_processes > 1 else alone
        return Collector(
            policy=policy,
            sampler=parts.sampler,
            objective=parts.objective,
            advantage=parts.advantage,
            rewards=rewards,
            prompts=prompts,
            seed=self.args.seed,
            group=self.args.num_generations,
            control=KLControl(parts.beta, self.args.target_kl, self.args.kl_gain),
            critic=parts.critic,
            reference=self.reference,
            replay=parts.replay,
            guided=parts.guided,
            elites=Elites(0 if parts.replay is None else parts.replay.size),
            gather=gather,
            precision=lambda: self.accelerator.autocast(),
        )

    def _prepare_stream(self, args: SEPOConfig, rows: Rows | None) -> None:
        layout = layout_of(args, self.accelerator.num_processes, self.accelerator.process_index)
        if rows is None and args.max_steps <= 0:
            raise ValueError(
                "Without a train_dataset there are no epochs: set max_steps to the number of optimizer steps."
            )
        self.collector.require_comparison(layout.groups, layout.micro)
        state = lambda: self.state  # noqa: E731 (a new one in every run)
        self.stream = ExperienceStream(self.collector, layout, rows, args.shuffle_dataset, self._note, state)
        self.progress = Progress(self.stream, self.collector.policy.meter, self.reference, self.collector.control)
        self.showcase = Showcase.of(args, self.run_folder, self.accelerator.is_main_process, self._gather_objects)

    def _add_callbacks(self, policy: Denoiser) -> None:
        self.interrupt = StopOnInterrupt(self._on_any_process)
        self.guard = FiniteGuard(policy.network, self.run_folder.path, ADVICE)
        timer = TimeSteps(self.progress.ledger.note)
        for callback in (timer, self.interrupt, self.guard, WriteMetrics(self.run_folder)):
            self.add_callback(callback)
        if isinstance(self.reference, Synced):
            self.add_callback(FollowPolicy(self.reference, policy.network))

    @property
    def policy(self) -> Denoiser:
        """The policy on the network that is being trained, outside DDP."""
        return self.collector.policy

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As in transformers. `resume_from_checkpoint=True` finds the last complete checkpoint of output_dir.

        Raises:
            ValueError: there is nothing to resume from, or what there is does not fit.
            NonFiniteError: a loss or gradient is not finite.
            OSError: a file could not be written.
        """
        checkpoint = asked_for(resume_from_checkpoint, self.run_folder.path)
        if checkpoint is None:
            self.progress.restart()
        else:
            self.progress.restore(checkpoint, self.args.process_index)
        if self.accelerator.is_main_process:
            open_folder(self.run_folder, checkpoint, self.args.to_sanitized_dict())
        with self.interrupt.listening():
            return super().train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint), **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """The stream itself, not prepared: accelerate would look one batch ahead, and rollouts would be a step old."""
        return DataLoader(self.stream, batch_size=None, collate_fn=lambda experience: experience)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, None]:
        """None after the last step: a finished run that is resumed is finished."""
        count = num_batches if self.state.global_step < self.state.max_steps else 0
        self.guard.inputs = [batch for _, batch in zip(range(count), epoch_iterator, strict=False)]
        return list(self.guard.inputs), None

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The objective at the views of a micro-batch of `Experience`."""
        new = self.objective.read(self.policy.on(model), inputs.views)
        reference = None
        if self.objective.uses_reference and self.reference is not None:
            with torch.no_grad(), self.reference.policy(self.policy) as policy:
                reference = self.objective.read_reference(policy, inputs.views, new)
        loss = self.objective.loss(new, inputs.old_reading(new), reference, inputs.credit, inputs.views)
        loss = with_replay(loss, self.policy.on(model), inputs.replay, self.collector.replay)
        self.guard.watch(loss.value, inputs)
        self.progress.ledger.note({"loss": loss.value, **loss.metrics})
        self.progress.losses.note({"train_loss": loss.value})
        return loss.value

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Before clipping; releases of transformers without this call leave it to the guard, after clipping."""
        self.guard.require_losses(self.state.global_step, self.args.process_index)
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16:
            self.guard.require("gradient norm", float(norm), self.state.global_step, self.args.process_index)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Loss and train_loss are ours: they outlive a resume, and are means over processes."""
        if "loss" in logs:
            logs.update(self._over_processes(self.progress.ledger))
            logs.update(self.progress.spent())
            self.showcase.show(self.progress.unshown, self.state.global_step)
            self.progress.unshown = None
        if "train_loss" in logs:
            logs.update(self._over_processes(self.progress.losses))
        super().log(logs, start_time)

    def _over_processes(self, ledger: Ledger) -> dict[str, float]:
        return Ledger.mean_of(self._gather_objects([ledger.settle()]))

    def _note(self, collected: Collected) -> None:
        self.progress.ledger.note(collected.metrics)
        self.collector.control.hear(collected.metrics.get("kl", 0.0))
        self.progress.unshown = completions_table(collected)

    def _save_rng_state(self, output_dir: str) -> None:
        """Called before trainer_state.json, which marks the checkpoint complete."""
        super()._save_rng_state(output_dir)
        unshown = self.showcase.whole(self.progress.unshown) if self.args.save_completions else None
        self.progress.save(Path(output_dir), self.args.process_index, unshown)
        self.accelerator.wait_for_everyone()

    def subject(self) -> Subject:
        """What the model card tells."""
        rewards, completion = self.collector.rewards, self.args.max_completion_length
        weights = dict(zip(rewards.names, rewards.weights, strict=True))
        prompted = completion if isinstance(self.collector.prompts, Text) else None
        return Subject(self.policy, self.method, weights, self.collector.sampler, prompted)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The network as ever, then its critic."""
        network = self.policy.network
        if not isinstance(network, ActorWithCritic):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        super()._load_from_checkpoint(resume_from_checkpoint, network.actor)
        load_critic(network, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if isinstance(self.policy.network, ActorWithCritic):
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean rewards on the rows of eval_dataset, num_generations_eval sequences each; shared among the processes.

        Of a dictionary of datasets, each under its own name. Rows without columns, [{}] * 64, are sequences without
        prompts.

        Raises:
            ValueError: there are no rows.
        """
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, Mapping):
            parts = [self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}") for name, part in rows.items()]
            return {name: value for part in parts for name, value in part.items()}
        require_rows(rows)
        prompts = self._prompts(rows, self.policy, self.collector.sampler) if rows[0] else self.collector.prompts
        collector = replace(self.collector, prompts=prompts)
        totals = rewards_on(rows, collector, self.stream.layout, self.args, self.state)
        means = Ledger.mean_of(self._gather_objects(totals))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _prompts(self, rows: Rows | None, policy: Denoiser, sampler: Sampler) -> Prompts:
        tokenizer: Any = self.processing_class
        return prompts_through(policy, sampler, rows, tokenizer, self.args.max_completion_length)

    def _gather_objects(self, values: list[Any]) -> list[Any]:
        return gather_object(values) if self.accelerator.num_processes > 1 else values

    def _on_any_process(self, flag: bool) -> bool:
        return bool(self.collector.gather(torch.tensor([flag], device=self.args.device)).any())
