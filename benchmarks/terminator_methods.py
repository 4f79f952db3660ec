"""The methods of the terminator benchmark: (bench, seed) -> designs, what was scored on the way, and the costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from terminator_conditional import Conditional, conditional
from torch import Tensor

from sepo import SEPOConfig, SEPOTrainer
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.models import load
from sepo.objectives.drakes import Drakes
from sepo.ops import Chance
from sepo.samplers import Ancestral, FirstHitting, PredictorCorrector, Sampler, roll
from sepo.samplers.guided import SMC, SVDD, TDS, BestOfN, ClassifierFree, ClassifierGuidance
from sepo.tasks import Measured

STEPS = 32
"""Network evaluations of a rollout."""
COLLECTIONS, BATCH = 60, 32
"""Of fine-tuning; their product are the reward calls."""
USES = 4
"""Updates from each collection, of the methods that have a ratio to the policy that drew it."""
DESIGNS = 256
AT_ONCE = 64
GUIDED = 64
"""Designs of a method that is guided at inference; calls and evaluations are of these."""


@dataclass
class Outcome:
    """designs, scored: letters [number length]; calls: sequences rewarded; evaluations: of the network, to train and to
    draw one set of designs; seconds: of the CPU, of what an earlier cell made for all seeds."""

    designs: np.ndarray
    scored: np.ndarray
    calls: int
    evaluations: int
    seconds: float = 0.0


Method = Callable[["Bench", int], Outcome]


@dataclass
class Bench:
    """folder: of the generator."""

    folder: Path
    task: Measured
    scored: list[Tensor] = field(default_factory=list)

    @cached_property
    def oracle(self) -> Any:
        """The reward's, fitted here: it takes soft tokens too."""
        return self.task.oracle("reward")

    def without_doubt(self) -> Bench:
        """With the mean of the reward's ensemble alone, without taking off where its members disagree."""
        return Bench(self.folder, replace(self.task, doubt=0.0))

    def generator(self) -> Denoiser:
        return load(self.folder)

    def conditional(self) -> Conditional:
        """Beside the generator, and made from it once."""
        return conditional(self.folder, self.task, self.folder.parent / "conditional")

    def reward(self, tokens: Tensor) -> Tensor:
        """The reward's oracle, with a memory of what it was asked."""
        self.scored.append(tokens.clone())
        return self.oracle(tokens)

    def soft_reward(self, mixture: Tensor) -> Tensor:
        self.scored.append(mixture.detach()[..., :-1].argmax(-1))
        return self.oracle.soft(mixture[..., :-1])

    def asked(self) -> Tensor:
        """All that was scored since the last time."""
        found = torch.cat(self.scored) if self.scored else torch.zeros(0, self.task.measured.length, dtype=torch.long)
        self.scored = []
        return found


def drawn(policy: Denoiser, sampler: Sampler, number: int, seed: int, at_once: int = AT_ONCE) -> Tensor:
    parts = []
    for start in range(0, number, at_once):
        count = min(at_once, number - start)
        chance = Chance.seeded(1_000_000 + seed, [start], count, policy.device)
        canvas = Canvas.blank(count, policy.length or 0)
        parts.append(roll(sampler, policy, canvas, chance).x0)
    return torch.cat(parts)


def outcome(bench: Bench, designs: Tensor, evaluations: int) -> Outcome:
    scored = bench.asked()
    return Outcome(designs.numpy().astype(np.int8), scored.numpy().astype(np.int8), len(scored), evaluations)


def pretrained(bench: Bench, seed: int) -> Outcome:
    policy = bench.generator()
    return outcome(bench, drawn(policy, FirstHitting(STEPS), DESIGNS, seed), policy.meter.evaluations)


def guided(make: Callable[[Bench], Sampler], bench: Bench, seed: int) -> Outcome:
    """No training: the costs are those of the designs themselves."""
    policy = bench.generator()
    designs = drawn(policy, make(bench), GUIDED, seed)
    return outcome(bench, designs, policy.meter.evaluations)


def classifier_free(bench: Bench, seed: int) -> Outcome:
    """w = 3, the best of 1, 2 and 3 by the reward's oracle (`terminator_conditional.py`: -2.04, -1.64, -1.13).

    No reward calls: the conditional network has learned from measured sequences, and that training, the same for all
    seeds, is in the evaluations and the seconds. A reading while designs are drawn is an evaluation of either network.
    """
    made = bench.conditional()
    sampler = ClassifierFree(Ancestral(STEPS), 3.0, bench.generator())
    designs = drawn(made.policy, sampler, GUIDED, seed)
    evaluations = made.evaluations + made.policy.meter.evaluations
    return replace(outcome(bench, designs, evaluations), seconds=made.seconds)


def tuned(
    bench: Bench, seed: int, soft: Drakes | None = None, sampler: Sampler | None = None, **changes: Any
) -> Outcome:
    policy, options = bench.generator(), {"sampling_steps": STEPS, "states": 8, "scale_rewards": "batch"}
    if "algorithm" in changes or soft is not None:
        options |= {"states": 16, "scale_rewards": "group"}
    uses = changes.get("num_iterations", 1)
    options |= {"max_steps": COLLECTIONS * uses, "learning_rate": 3e-4, "lr_scheduler_type": "linear"} | changes

    def reward(completions: list[np.ndarray], **columns: Any) -> list[float]:
        tokens = torch.from_numpy(np.stack(completions)).long()
        if soft is not None:
            return [0.0] * len(tokens)
        return bench.reward(tokens).tolist()

    with tempfile.TemporaryDirectory() as folder:
        args = SEPOConfig(
            folder,
            per_device_train_batch_size=BATCH,
            num_generations=BATCH,
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            save_completions=False,
            **options,
        )
        trainer = SEPOTrainer(policy, reward, args, algorithm=soft, sampler=sampler)
        trainer.train()
    scored = bench.asked()
    designs = drawn(trainer.policy, FirstHitting(STEPS), DESIGNS, seed)
    found = outcome(bench, designs, trainer.policy.meter.evaluations)
    return Outcome(found.designs, scored.numpy().astype(np.int8), len(scored), found.evaluations)


def drakes(alpha: float, bench: Bench, seed: int) -> Outcome:
    """The last quarter of the steps softly, as 50 of 128 published is more than a third."""
    return tuned(bench, seed, soft=Drakes(bench.soft_reward, truncate=8, alpha=alpha))


def evolved(bench: Bench, seed: int) -> Outcome:
    """pygad from samples of the generator, with as many reward calls as fine-tuning has."""
    import pygad

    policy, population = bench.generator(), 64
    first = drawn(policy, FirstHitting(STEPS), population, seed)
    search = pygad.GA(
        num_generations=COLLECTIONS * BATCH // population - 1,
        num_parents_mating=population // 2,
        keep_elitism=population // 20,
        fitness_func=lambda _, genes, at: bench.reward(torch.from_numpy(genes.astype(np.int64))).tolist(),
        fitness_batch_size=population,
        initial_population=first.numpy(),
        gene_type=int,
        gene_space=list(range(4)),
        parent_selection_type="tournament",
        K_tournament=6,
        crossover_type="two_points",
        mutation_type="random",
        mutation_probability=2 / first.shape[1],
        random_seed=seed,
        suppress_warnings=True,
    )
    search.run()
    return outcome(bench, torch.from_numpy(search.population.astype(np.int64)), policy.meter.evaluations)


def sepo(beta: float, **changes: Any) -> Method:
    return partial(tuned, beta=beta, **({"num_iterations": USES} | changes))


def trusting(method: Method, bench: Bench, seed: int) -> Outcome:
    return method(bench.without_doubt(), seed)


METHODS: dict[str, Method] = {
    "pretrained": pretrained,
    "sepo 0.03": sepo(0.03),
    "drakes 0.003": partial(drakes, 0.003),
    "diffu_grpo": partial(tuned, algorithm="diffu_grpo", num_iterations=USES),
    "elite_replay": partial(tuned, algorithm="elite_replay", num_iterations=USES),
    "svdd 8": partial(guided, lambda bench: SVDD(Ancestral(STEPS), bench.reward, 8)),
    "best of 8": partial(guided, lambda bench: BestOfN(FirstHitting(STEPS), bench.reward, 8)),
    "sepo 0.1": sepo(0.1),
    "sepo 0": sepo(0.0),
    "sepo 0.01": sepo(0.01),
    "genetic": evolved,
    "drakes 0.03": partial(drakes, 0.03),
    "sepo 0.03 and elites": sepo(0.03, replay_kwargs={"coef": 0.1}),
    "trajectory_pg": partial(tuned, algorithm="trajectory_pg", num_iterations=USES),
    "smc": partial(guided, lambda bench: SMC(Ancestral(STEPS), bench.reward, 0.3, 16)),
    "tds": partial(guided, lambda bench: TDS(Ancestral(STEPS), bench.soft_reward, 0.3, 16)),
    "classifier guidance": partial(guided, lambda bench: ClassifierGuidance(Ancestral(STEPS), 3.0, bench.soft_reward)),
    "classifier-free guidance": classifier_free,
    "sepo 0.03, one use": sepo(0.03, num_iterations=1),
    "sepo 0.03, flow": sepo(0.03, sampler=PredictorCorrector(STEPS // 2, 1)),
    "drakes 0.3": partial(drakes, 0.3),
    "sepo 0.3": sepo(0.3),
    "sepo 0.03, no doubt": partial(trusting, sepo(0.03)),
    "sepo 0, no doubt": partial(trusting, sepo(0.0)),
    "sepo_released": partial(tuned, algorithm="sepo_released", max_steps=2),
}
