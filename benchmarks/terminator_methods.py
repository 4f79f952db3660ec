"""The methods of the terminator benchmark: (bench, seed) -> designs, what was scored on the way, and the costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from terminator_bench import DESIGNS, GUIDED, STEPS, Bench, Method, Outcome, drawn, outcome
from terminator_tuning import BATCH, COLLECTIONS, USES, drakes, sepo, tuned

from sepo.samplers import Ancestral, FirstHitting, PredictorCorrector, Sampler
from sepo.samplers.guided import SMC, SVDD, TDS, BestOfN, ClassifierFree, ClassifierGuidance
from sepo.training.value_fitting import ValueFit, fit_value

CANDIDATES = 8
VALUE = ValueFit()
ROUNDS, LED_BATCH, LED_STEPS = 7, 16, 8
"""Of elite replay under guidance: collections, sequences of each, and steps of a rollout."""


def pretrained(bench: Bench, seed: int) -> Outcome:
    policy = bench.generator()
    return outcome(bench, drawn(policy, FirstHitting(STEPS), DESIGNS, seed), policy.meter.evaluations)


def guided(make: Callable[[Bench], Sampler], bench: Bench, seed: int) -> Outcome:
    """No training: the costs are those of the designs themselves."""
    policy = bench.generator()
    designs = drawn(policy, make(bench), GUIDED, seed)
    return outcome(bench, designs, policy.meter.evaluations)


def classifier_free(weight: float, bench: Bench, seed: int) -> Outcome:
    """No reward calls: the conditional network has learned from measured sequences, and that training, the same for all
    seeds, is in the evaluations and the seconds. A reading while designs are drawn is an evaluation of either network.
    """
    made = bench.conditional()
    sampler = ClassifierFree(Ancestral(STEPS), weight, bench.generator())
    designs = drawn(made.policy, sampler, GUIDED, seed)
    evaluations = made.evaluations + made.policy.meter.evaluations
    return replace(outcome(bench, designs, evaluations), seconds=made.seconds)


def by_learned_value(bench: Bench, seed: int) -> Outcome:
    """As many reward calls as fine-tuning has: the value learns from what the last candidates of the designs leave."""
    policy, sampler = bench.generator(), Ancestral(STEPS)
    how = replace(VALUE, sequences=COLLECTIONS * BATCH - CANDIDATES * GUIDED, seed=seed)
    value = fit_value(policy, sampler, bench.reward, how)
    designs = drawn(policy, SVDD(sampler, bench.reward, CANDIDATES, value=value), GUIDED, seed)
    return outcome(bench, designs, policy.meter.evaluations)


def iterated(bench: Bench, seed: int) -> Outcome:
    """Elite replay of rollouts that SVDD draws, in as many updates; a rollout asks the reward 2 x 8 times on the way
    and once at the end, so that 7 collections of 16 are 1,904 of the 1,920 calls.
    """
    sampler = SVDD(Ancestral(LED_STEPS), bench.reward, 2)
    uses = COLLECTIONS * USES // ROUNDS
    sizes = {"per_device_train_batch_size": LED_BATCH, "num_generations": LED_BATCH, "num_iterations": uses}
    return tuned(bench, seed, algorithm="elite_replay", sampler=sampler, max_steps=ROUNDS * uses, **sizes)


def evolved(bench: Bench, seed: int) -> Outcome:
    """pygad from samples of the generator, with at most as many reward calls as fine-tuning has: of an elite it does
    not ask again. Its designs are its last population, 64."""
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


def trusting(method: Method, bench: Bench, seed: int) -> Outcome:
    return method(bench.without_doubt(), seed)


PER_STEP: dict[str, Any] = {"importance_sampling_level": "step", "weight": "ppo"}
"""The ratio and the clip of the trajectory policy gradient, in SEPO."""

METHODS: dict[str, Method] = {
    "pretrained": pretrained,
    "sepo 0.03": sepo(0.03),
    "drakes 0.003": partial(drakes, 0.003),
    "diffu_grpo": partial(tuned, algorithm="diffu_grpo", num_iterations=USES),
    "elite_replay": partial(tuned, algorithm="elite_replay", num_iterations=USES),
    "elite_replay, svdd": iterated,
    "svdd 8, learned value": by_learned_value,
    "svdd 8": partial(guided, lambda bench: SVDD(Ancestral(STEPS), bench.reward, 8)),
    "best of 8": partial(guided, lambda bench: BestOfN(FirstHitting(STEPS), bench.reward, 8)),
    "sepo 0.1": sepo(0.1),
    "sepo 0": sepo(0.0),
    "sepo 0.1, w = 1": sepo(0.1, w=1.0),
    "sepo 0.1, w = 2": sepo(0.1, w=2.0),
    "sepo 0.1, w = 4": sepo(0.1, w=4.0),
    "sepo 0.1, sft": sepo(0.1, sft=True),
    "sepo 0.1, sft, w = 1": sepo(0.1, sft=True, w=1.0),
    "sepo 0.1, sft, w = 2": sepo(0.1, sft=True, w=2.0),
    "sepo 0.1, priced to sft": sepo(0.1, sft=True, priced_to_sft=True),
    "sepo 0.1, priced to sft, w = 1": sepo(0.1, sft=True, priced_to_sft=True, w=1.0),
    "sepo 0.1, priced to sft, w = 2": sepo(0.1, sft=True, priced_to_sft=True, w=2.0),
    "sepo 0.1, priced to sft, w = 4": sepo(0.1, sft=True, priced_to_sft=True, w=4.0),
    "sepo 0.01": sepo(0.01),
    "genetic": evolved,
    "drakes 0.03": partial(drakes, 0.03),
    "sepo 0.03 and elites": sepo(0.03, replay_kwargs={"coef": 0.1}),
    "trajectory_pg": partial(tuned, algorithm="trajectory_pg", num_iterations=USES),
    "smc": partial(guided, lambda bench: SMC(Ancestral(STEPS), bench.reward, 0.3, 16)),
    "tds": partial(guided, lambda bench: TDS(Ancestral(STEPS), bench.soft_reward, 0.3, 16)),
    "classifier guidance": partial(guided, lambda bench: ClassifierGuidance(Ancestral(STEPS), 3.0, bench.soft_reward)),
    "classifier-free guidance": partial(classifier_free, 3.0),
    "classifier-free guidance, w = 6": partial(classifier_free, 6.0),
    "classifier-free guidance, w = 12": partial(classifier_free, 12.0),
    "classifier-free guidance, w = 24": partial(classifier_free, 24.0),
    "sepo 0.03, one use": sepo(0.03, num_iterations=1),
    "sepo 0, all states": sepo(0.0, states=None),
    "sepo 0.03, all states": sepo(0.03, states=None),
    "sepo 0.03, all states, w = 1": sepo(0.03, states=None, w=1.0),
    "sepo 0.03, all states, w = 2": sepo(0.03, states=None, w=2.0),
    "sepo 0.03, all states, per step": sepo(0.03, states=None, **PER_STEP),
    "sepo 0.03, all states, per step, w = 1": sepo(0.03, w=1.0, states=None, **PER_STEP),
    "sepo 0.03, all states, per step, w = 2": sepo(0.03, w=2.0, states=None, **PER_STEP),
    "sepo 0.03, priced to sft, all states": sepo(0.03, sft=True, priced_to_sft=True, states=None),
    "sepo 0.03, priced to sft, all states, w = 1": sepo(0.03, w=1.0, sft=True, priced_to_sft=True, states=None),
    "sepo 0.03, priced to sft, all states, w = 2": sepo(0.03, w=2.0, sft=True, priced_to_sft=True, states=None),
    "sepo 0.03, merged": sepo(0.03, reading="merged"),
    "sepo 0.03, merged, w = 1": sepo(0.03, w=1.0, reading="merged"),
    "sepo 0.1, merged": sepo(0.1, reading="merged"),
    "sepo 0.1, merged, w = 1": sepo(0.1, w=1.0, reading="merged"),
    "sepo 0.1, merged, w = 2": sepo(0.1, w=2.0, reading="merged"),
    "sepo 0.1, merged, w = 4": sepo(0.1, w=4.0, reading="merged"),
    "sepo 0.1, priced to sft, merged": sepo(0.1, sft=True, priced_to_sft=True, reading="merged"),
    "sepo 0.1, priced to sft, merged, w = 1": sepo(0.1, w=1.0, sft=True, priced_to_sft=True, reading="merged"),
    "sepo 0.1, priced to sft, merged, w = 2": sepo(0.1, w=2.0, sft=True, priced_to_sft=True, reading="merged"),
    "sepo 0.1, all states": sepo(0.1, states=None),
    "sepo 0.1, all states, w = 1": sepo(0.1, states=None, w=1.0),
    "sepo 0.1, all states, w = 2": sepo(0.1, states=None, w=2.0),
    "sepo 0.1, all states, w = 4": sepo(0.1, states=None, w=4.0),
    "sepo 0.1, all states, w = 8": sepo(0.1, states=None, w=8.0),
    "sepo 0.03, flow": sepo(0.03, sampler=PredictorCorrector(STEPS // 2, 1)),
    "drakes 0.3": partial(drakes, 0.3),
    "sepo 0.3": sepo(0.3),
    "sepo 0.03, no doubt": partial(trusting, sepo(0.03)),
    "sepo 0, no doubt": partial(trusting, sepo(0.0)),
    "sepo_released": partial(tuned, algorithm="sepo_released", max_steps=2),
}
