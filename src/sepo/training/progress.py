"""Progress: what a run knows beside its weights and what transformers keeps.

Its place in the stream of experience, the elites, the log line that is open, the evaluations counted, what a nat costs
by now, and a reference that moves.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor

from sepo.diffusion.denoiser import Meter
from sepo.runs import Completions, RunFolder, completion_steps, read_completions, write_completions
from sepo.training.kl_control import KLControl
from sepo.training.ledger import Ledger
from sepo.training.reference import Reference
from sepo.training.stream import ExperienceStream

REFERENCE = "reference.safetensors"


@dataclass
class Progress:
    """ledger: of the open log line; losses: of the whole run; unshown: the last collection, not yet in a log line."""

    stream: ExperienceStream
    meter: Meter
    reference: Reference | None
    control: KLControl
    ledger: Ledger = field(default_factory=Ledger)
    losses: Ledger = field(default_factory=Ledger)
    unshown: Completions | None = None

    def restart(self) -> None:
        """A new run: from the first prompt, with nothing noted."""
        self.stream.restart()
        self.stream.collector.elites.restart()
        self.stream.collector.asked.sequences = 0
        self.control.restart()
        self.ledger.settle()
        self.losses.settle()
        self.unshown = None

    def spent(self) -> dict[str, int]:
        """By all processes so far; reward calls where a guidance makes them other than rollouts."""
        collector = self.stream.collector
        counts = [self.meter.evaluations, self.meter.with_gradient, collector.asked.sequences]
        told = collector.gather(torch.tensor([counts], device=collector.policy.device)).sum(0).tolist()
        names = ["network_evaluations", "network_evaluations_with_gradient", "reward_calls"]
        return dict(zip(names[: 2 if collector.guided is None else 3], told, strict=False))

    def save(self, folder: Path, rank: int, unshown: Completions | None) -> None:
        """One process's part; the first process also writes the reference, and the collection of all processes."""
        folder.mkdir(parents=True, exist_ok=True)
        position, tensors = self.stream.state()
        tensors |= self.stream.collector.elites.state()
        state = {
            "position": position,
            "sizes": self._sizes(),
            "ledger": self.ledger.state(),
            "losses": self.losses.state(),
            "meter": asdict(self.meter),
            "beta": self.control.beta,
            "reward_calls": self.stream.collector.asked.sequences,
        }
        save_file(tensors, folder / f"stream_{rank}.safetensors")
        (folder / f"stream_{rank}.json").write_text(json.dumps(state))
        if rank:
            return
        if self.reference is not None and self.reference.network is not None:
            save_model(self.reference.network, str(folder / REFERENCE))
        if unshown is not None:
            write_completions(RunFolder(folder), replace(unshown, step=0))

    def restore(self, folder: Path, rank: int) -> None:
        """
        Raises:
            ValueError: the checkpoint was saved without it, or by a run of other sizes.
        """
        state = self._read(folder, rank)
        tensors = load_file(folder / f"stream_{rank}.safetensors")
        self.stream.restore(state["position"], tensors)
        self._restore_elites(folder, tensors)
        self.ledger.restore(state["ledger"])
        self.losses.restore(state["losses"])
        self.control.restore(state.get("beta", self.control.beta))
        self.meter.evaluations = state["meter"]["evaluations"]
        self.meter.with_gradient = state["meter"]["with_gradient"]
        self.stream.collector.asked.sequences = state.get("reward_calls", 0)
        if self.reference is not None and self.reference.network is not None:
            if not (folder / REFERENCE).is_file():
                raise ValueError(
                    f"{folder} holds no {REFERENCE}, because the run that saved it had no reference that moves: resume "
                    "with sync_ref_model as it was."
                )
            load_model(self.reference.network, folder / REFERENCE)
        kept = RunFolder(folder)
        self.unshown = read_completions(kept) if rank == 0 and completion_steps(kept) else None

    def _restore_elites(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        collector = self.stream.collector
        if "elites.tokens" in tensors:
            collector.elites.restore(tensors)
        elif collector.replay is not None:
            raise ValueError(
                f"{folder} holds no elites, because the run that saved it kept none: resume without replay_kwargs, or "
                "start a new run from its weights."
            )

    def _sizes(self) -> dict[str, int]:
        """All that a place in the stream depends on, as users know it."""
        rows = self.stream.dataset
        return {**self.stream.layout.public(), "rows of train_dataset": 0 if rows is None else len(rows)}

    def _read(self, folder: Path, rank: int) -> dict[str, Any]:
        path = folder / f"stream_{rank}.json"
        if not path.is_file():
            raise ValueError(
                f"{folder} cannot be resumed by process {rank}: it has no {path.name}. It was saved with "
                "save_only_model=True or by fewer processes; resume with as many processes, or start a new run from "
                "its weights."
            )
        state = json.loads(path.read_text())
        now = self._sizes()
        changed = [f"{name} = {now[name]} (was {was})" for name, was in state["sizes"].items() if now[name] != was]
        if changed:
            raise ValueError(
                f"{folder} was saved by a run with other sizes: {', '.join(changed)}. Its place in the stream of "
                "prompts has no meaning here; resume with the sizes as they were, or start a new run from its weights."
            )
        return state
