"""Saving and publishing: what the trainers write beside the weights, and what `push_to_hub` uploads.

Every save writes a model card, README.md, from what the run knows; one that a user wrote is left as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from sepo.diffusion.denoiser import Denoiser
from sepo.models import family_of
from sepo.models.adapters import adapter_around
from sepo.models.ancestry import Base, ancestor_of, base_named
from sepo.models.card import NAME as CARD
from sepo.models.card import card_of
from sepo.models.critic import CRITIC
from sepo.models.model_card import NAME as README
from sepo.models.model_card import Facts, write_model_card, written_by_user
from sepo.models.saving import BASE
from sepo.samplers import Sampler
from sepo.training.checkpoint import checkpoint_folder, write_model, writing
from sepo.training.method import Method, drawing, last_metrics
from sepo.training.policy import in_a_family

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Subject:
    """What a trainer tells of its model. rewards: weights by name; completion: free sites behind a text prompt."""

    policy: Denoiser
    method: Method
    rewards: Mapping[str, float] = field(default_factory=dict)
    sampler: Sampler | None = None
    completion: int | None = None


class PublishingTrainer(Trainer):
    """A `transformers.Trainer` whose model is saved as sepo saves it, with a card, and pushed as a whole."""

    _tag_names: ClassVar[list[str]] = ["sepo", "discrete-diffusion"]
    _told: Mapping[str, Any] = MappingProxyType({})
    """What `create_model_card` was told, for the cards of later saves."""

    def subject(self) -> Subject:
        raise NotImplementedError

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Writes README.md into output_dir, unless there is one that a user wrote. `push_to_hub` calls it.

        Args:
            language, license, tags: for the header. License: None takes that of the base model's own card, which is
                fetched where the model is pushed, too.
            model_name: the title; None: the name of the repository, or of the folder.
            finetuned_from: the base model; None: where the model was loaded from.
            tasks: the first is the header's pipeline_tag.
            dataset_tags, dataset, dataset_args: ids on the hub for the header; names and subsets for the text.
        """
        if not self.is_world_process_zero():
            return
        given = {
            **{"language": language, "license": license, "tags": tags, "model_name": model_name},
            **{"finetuned_from": finetuned_from, "tasks": tasks},
            **{"dataset_tags": dataset_tags, "dataset": dataset, "dataset_args": dataset_args},
        }
        self._told = {**self._told, **{name: value for name, value in given.items() if value}}
        folder = Path(str(self.args.output_dir))
        facts = self._facts(folder, online=self.hub_model_id is not None and "license" not in self._told)
        if facts.adapters and facts.base is not None and facts.base.hub_id is None:
            logger.warning(
                f"The adapters in {folder} need their base, the folder {facts.base.name!r} of this machine: push the "
                "base first and load it from the hub, or others cannot open them."
            )
        write_model_card(facts, folder)

    def _facts(self, folder: Path, online: bool) -> Facts:
        subject, told = self.subject(), self._told
        policy, method = subject.policy, subject.method
        data = _listed(told.get("dataset") or told.get("dataset_tags")) + _listed(told.get("dataset_args"))
        metrics, note = last_metrics(self.state, self.args)
        evaluated = any(each.name.startswith("eval_") for each in metrics)
        pushed = folder.resolve() == Path(str(self.args.output_dir)).resolve() and self.hub_model_id is not None
        place = str(self.hub_model_id if pushed else folder)
        processes = self.accelerator.num_processes
        return Facts(
            title=told.get("model_name") or Path(place).resolve().name,
            place=place,
            made=method.made,
            method=method.name,
            drawing=drawing(subject.sampler, policy.process, subject.completion, self.processing_class is not None),
            card=card_of(policy, family_of(policy.network)) if in_a_family(policy) else None,
            base=_base_of(policy, told.get("finetuned_from"), folder, online),
            tags=[*self._tag_names, *method.tags, *_listed(told.get("tags"))],
            papers=method.papers,
            data=", ".join(data),
            rewards=subject.rewards,
            options={**method.options, **({"processes": processes} if processes > 1 else {})},
            adapters=_adapters_of(policy),
            metrics=metrics,
            note=f"{method.note if evaluated else ''} {note}".strip(),
            about=_header_of(told),
        )

    # ------------------------------------------------------------------------------------------------- checkpoints
    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        main, policy = self.args.should_save, self.subject().policy
        kept = written_by_user(folder) if main else None
        if not in_a_family(policy):
            super()._save(str(folder), state_dict)
        elif main:
            write_model(policy, folder, self.processing_class, self.args)
        if kept is not None:
            (folder / README).write_bytes(kept)  # PEFT writes a form with blanks
        elif main:
            (folder / README).unlink(missing_ok=True)
            write_model_card(self._facts(folder, online=False), folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = checkpoint_folder(self._get_output_dir(trial), self.state.global_step)
        with writing(folder, self.args.should_save):
            super()._save_checkpoint(model, trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Also what transformers does not know of: sepo.json, a critic, the base of adapters, the card."""
        pending = self.push_in_progress is not None and not self.push_in_progress.is_done()
        skipped = self.args.hub_strategy == HubStrategy.END or (pending and not self.args.hub_always_push)
        if self.is_world_process_zero() and not skipped:
            bring_along(Path(checkpoint_folder), Path(str(self.args.output_dir)))
            self.create_model_card()
        super()._push_from_checkpoint(checkpoint_folder)


def bring_along(checkpoint: Path, folder: Path) -> None:
    """Copies what belongs to the weights of a checkpoint beyond what transformers copies."""
    for name in (CARD, CRITIC):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)
    if (checkpoint / BASE).is_dir():
        shutil.copytree(checkpoint / BASE, folder / BASE, dirs_exist_ok=True)


def _base_of(policy: Denoiser, named: str | None, folder: Path, online: bool) -> Base | None:
    """What the network was loaded or converted from; None if it was made here, or lies in this very folder."""
    if named is None:
        try:
            named = ancestor_of(policy.network)
        except ValueError:  # a network of the user's own
            return None
    return base_named(named, online) if named and Path(named).resolve() != folder.resolve() else None


def _adapters_of(policy: Denoiser) -> str:
    """Such as "LORA, r=8"; empty without adapters."""
    adapter = adapter_around(policy.network)
    if adapter is None:
        return ""
    options = adapter.peft_config[adapter.active_adapter].to_dict()
    rank = f", r={options['r']}" if "r" in options else ""
    return f"{options['peft_type'].value}{rank}"


def _header_of(told: Mapping[str, Any]) -> dict[str, Any]:
    header = {"language": told.get("language"), "license": told.get("license"), "datasets": told.get("dataset_tags")}
    tasks = _listed(told.get("tasks"))
    return {name: value for name, value in {**header, "pipeline_tag": tasks[0] if tasks else None}.items() if value}


def _listed(names: str | list[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
