"""Fine-tuning in the terminator benchmark: one trainer for every method, and policies that several rows share."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from terminator_bench import DESIGNS, GUIDED, STEPS, Bench, Outcome, drawn, outcome

from sepo import SEPOConfig, SEPOTrainer
from sepo.diffusion.denoiser import Denoiser
from sepo.models import load
from sepo.objectives.drakes import Drakes
from sepo.runs.plain import read_json, write_json
from sepo.samplers import Ancestral, FirstHitting, Sampler
from sepo.samplers.guided import ClassifierFree
from sepo.training.reference import Apart, Reference

COLLECTIONS, BATCH = 60, 32
"""Of fine-tuning; their product are the reward calls."""
CALLS = {"calls": f"{COLLECTIONS} x {BATCH}"}
USES = 4
"""Updates from each collection, of the methods that have a ratio to the policy that drew it."""


@dataclass
class Trained:
    """scored: letters [number length] in order; evaluations: of the network; seconds: of the CPU, spent earlier."""

    policy: Denoiser
    scored: np.ndarray
    evaluations: int
    seconds: float = 0.0

    def outcome(self, bench: Bench, sampler: Sampler, number: int, seed: int) -> Outcome:
        """Designs of the policy, at the cost of its training and their own."""
        before = self.policy.meter.evaluations
        found = outcome(bench, drawn(self.policy, sampler, number, seed), 0)
        evaluations = self.evaluations + self.policy.meter.evaluations - before
        return Outcome(found.designs, self.scored, len(self.scored), evaluations, self.seconds)


def fine_tuned(
    bench: Bench,
    seed: int,
    soft: Drakes | None = None,
    sampler: Sampler | None = None,
    start: Denoiser | None = None,
    reference: Reference | None = None,
    folder: Path | None = None,
    **changes: Any,
) -> Trained:
    """start: where the policy begins, None: at the generator; reference: None: where it begins; folder: where the
    policy is left."""
    policy, options = start or bench.generator(), {"sampling_steps": STEPS, "states": 8, "scale_rewards": "batch"}
    if "algorithm" in changes or soft is not None:
        options |= {"states": 16, "scale_rewards": "group"}
    uses = changes.get("num_iterations", 1)
    options |= {"per_device_train_batch_size": BATCH, "num_generations": BATCH}
    options |= {"max_steps": COLLECTIONS * uses, "learning_rate": 3e-4, "lr_scheduler_type": "linear"} | changes

    def reward(completions: list[np.ndarray], **columns: Any) -> list[float]:
        tokens = torch.from_numpy(np.stack(completions)).long()
        if soft is not None:
            return [0.0] * len(tokens)
        return bench.reward(tokens).tolist()

    with tempfile.TemporaryDirectory() as scratch:
        args = SEPOConfig(
            scratch,
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            save_completions=False,
            **options,
        )
        trainer = SEPOTrainer(policy, reward, args, algorithm=soft, sampler=sampler, reference=reference)
        trainer.train()
        if folder is not None:
            trainer.save_model(str(folder))
    return Trained(trainer.policy, bench.asked().numpy().astype(np.int8), trainer.policy.meter.evaluations)


def tuned(bench: Bench, seed: int, **how: Any) -> Outcome:
    return fine_tuned(bench, seed, **how).outcome(bench, FirstHitting(STEPS), DESIGNS, seed)


def kept(bench: Bench, name: str, seed: int, train: Callable[[Path], Trained]) -> Trained:
    """A policy that several rows draw from, trained by the first of them; its costs are in each.

    It is trained again where the generator, the reward's oracle or the number of calls are others.
    """
    folder = bench.folder.parent / "policies" / f"{name}.{seed}"
    costs, scored, rests_on = folder / "costs.json", folder / "scored.npy", bench.marks("reward") | CALLS
    if costs.is_file():
        spent = read_json(costs)
        if spent.pop("rests_on") == rests_on:
            return Trained(load(folder), np.load(scored), **spent)
    started = time.process_time()
    made = train(folder)
    np.save(scored, made.scored)
    seconds = made.seconds + time.process_time() - started
    write_json(costs, {"evaluations": made.evaluations, "seconds": seconds, "rests_on": rests_on})
    return made


def sepo(
    beta: float, w: float = 0.0, sft: bool = False, priced_to_sft: bool = False, **changes: Any
) -> Callable[[Bench, int], Outcome]:
    """sft: the policy begins at the network that classifier-free guidance is conditioned by, the generator fine-tuned
    to the most active, whose training is part of the cost; the reference is the generator, or with priced_to_sft that
    network. w: designs are drawn with log p + w (log p - log p_generator): at the optimum of a price to the generator
    that is a price of beta / (1 + w), site by site, one training with several prices; of one to the SFT it goes on with
    what SFT and reward have changed alike. changes: other options of SEPOConfig, or a sampler; each set of them, in
    this order, has a policy of its own.
    """

    if priced_to_sft and not sft:
        raise ValueError("priced_to_sft=True: the policy must begin there, too; set sft=True.")

    def train(bench: Bench, seed: int, folder: Path) -> Trained:
        start = bench.conditional() if sft else None
        reference = None
        if start is not None and not priced_to_sft:
            reference = Apart.of(bench.generator(), start.policy)
        how = {"beta": beta, "num_iterations": USES, "reference": reference} | changes
        made = fine_tuned(bench, seed, folder=folder, start=start and start.policy, **how)
        if start is None:
            return made
        return replace(made, evaluations=made.evaluations + start.evaluations, seconds=start.seconds)

    def method(bench: Bench, seed: int) -> Outcome:
        name = f"sepo_{beta:g}" + "_sft" * sft + "_priced_to_it" * priced_to_sft + "_no_doubt" * (bench.task.doubt == 0)
        name += "".join("_" + re.sub(r"\W+", "_", f"{option} {value}") for option, value in changes.items())
        made = kept(bench, name, seed, lambda folder: train(bench, seed, folder))
        if not w:
            return made.outcome(bench, FirstHitting(STEPS), DESIGNS, seed)
        return made.outcome(bench, ClassifierFree(Ancestral(STEPS), w, bench.generator()), GUIDED, seed)

    return method


def drakes(alpha: float, bench: Bench, seed: int) -> Outcome:
    """The last quarter of the steps softly, as 50 of 128 published is more than a third."""
    return tuned(bench, seed, soft=Drakes(bench.soft_reward, truncate=8, alpha=alpha))
