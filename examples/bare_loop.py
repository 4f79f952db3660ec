"""SEPO in a bare loop: the stream of experience, an objective, an optimizer, and no trainer.

sepo pretrain sudoku
python examples/bare_loop.py runs/sudoku_pretrain
"""

from __future__ import annotations

import sys

import torch

from sepo import load
from sepo.objectives import SEPO, Advantage, NextSite
from sepo.rewards import Rewards
from sepo.samplers import FirstHitting
from sepo.tasks import Sudoku
from sepo.training import Collector, ExperienceStream, Frozen, Layout
from sepo.training.kl_control import KLControl
from sepo.training.prompts import prompts_for


def main(model: str, steps: int = 50, learning_rate: float = 1e-3) -> list[dict[str, float]]:
    """Fine-tunes the model in a folder to solve sudoku; the metrics of each step."""
    task, policy, objective = Sudoku(), load(model), SEPO(NextSite(states=4))
    rows, metrics = task.prompts(), []
    collector = Collector(
        policy=policy,
        sampler=FirstHitting(),
        objective=objective,
        advantage=Advantage(),
        rewards=Rewards.of(task.reward),
        prompts=prompts_for(rows, None, completion_length=0, max_length=policy.length),
        seed=0,
        group=8,
        control=KLControl(0.02),
        reference=Frozen.of(policy.network),
    )
    layout = Layout(micro=64, group=8)
    stream = ExperienceStream(collector, layout, rows, on_collected=lambda found: metrics.append(found.metrics))
    optimizer = torch.optim.AdamW(policy.network.parameters(), learning_rate)
    for _, experience in zip(range(steps), stream, strict=False):
        new = objective.read(policy, experience.views)
        loss = objective.loss(new, experience.old_reading(new), None, experience.credit, experience.views)
        loss.value.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"reward {metrics[-1]['reward']:.3f}, path KL {metrics[-1]['kl']:.3f}")
    return metrics


if __name__ == "__main__":
    main(*sys.argv[1:2])
