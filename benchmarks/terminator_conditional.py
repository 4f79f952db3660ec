"""The condition of classifier-free guidance on plant terminators: the generator, trained further on the most active.

    python benchmarks/terminator_conditional.py --data FOLDER    # makes it once; tries weights on the reward's oracle

The most active tenth of the groups that the reward's oracle was fitted to: what the reward knows, and nothing of the
judge's groups or the unseen ones. The training is the library's own, and its evaluations are part of the method's cost.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from terminator_base import JUDGE, REWARD, UNSEEN, design

from sepo.cli.design_training import task_of
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.models import load
from sepo.ops import Chance
from sepo.oracles import split_by_group
from sepo.runs.plain import read_json, write_json
from sepo.samplers import Ancestral, roll
from sepo.samplers.guided import ClassifierFree
from sepo.tasks import Measured
from sepo.training import PretrainConfig, PretrainTrainer

ACTIVE = 0.1
STEPS, BATCH = 400, 64
SUMMARY = "summary.json"
"""Written last: the model beside it is complete."""
TRIED, TRIED_SEED = (0.0, 1.0, 2.0, 3.0), 3_000_000


@dataclass(frozen=True)
class Conditional:
    """evaluations: of the network in its training; seconds: of the CPU, that it took earlier, 0 if it was made now."""

    policy: Denoiser
    evaluations: int
    seconds: float


def most_active(task: Measured) -> list[dict[str, Any]]:
    """Rows to train on, {"tokens": [length]}, of the reward's groups alone."""
    measured = task.measured
    known = split_by_group(measured.groups, REWARD, JUDGE, UNSEEN).reward
    best = known[measured.activity[known].topk(max(int(ACTIVE * len(known)), 1)).indices]
    return [{"tokens": each} for each in measured.tokens[best].tolist()]


def conditional(generator: Path, task: Measured, folder: Path, steps: int = STEPS) -> Conditional:
    """Made if it is not in `folder` yet, of this generator."""
    rests_on = sha256((generator / "model.safetensors").read_bytes()).hexdigest()
    if (folder / SUMMARY).is_file():
        kept = read_json(folder / SUMMARY)
        if kept.pop("rests_on", None) == rests_on:
            return Conditional(load(folder), **kept)
    args = PretrainConfig(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=3e-4,
        lr_scheduler_type="linear",
        ema=0.99,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    started, policy = time.process_time(), load(generator)
    trainer = PretrainTrainer(policy, args, most_active(task))
    trainer.train()
    trainer.save_model()
    seconds, evaluations = time.process_time() - started, policy.meter.evaluations
    write_json(folder / SUMMARY, {"seconds": seconds, "evaluations": evaluations, "rests_on": rests_on})
    return Conditional(load(folder), evaluations, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    what = design(parser.parse_args().data)
    task, generator = task_of(what), what.folder / "generator"
    policy = conditional(generator, task, what.folder / "conditional").policy
    canvas, oracle = Canvas.blank(64, task.measured.length), task.oracle("reward")
    for weight in TRIED:
        sampler = ClassifierFree(Ancestral(32), weight, load(generator))
        found = roll(sampler, policy, canvas, Chance.of(TRIED_SEED, len(canvas))).x0
        print(f"w {weight:g}: reward's median {oracle(found).median():.2f} of {len(found)}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
