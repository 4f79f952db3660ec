"""The methods that the laboratory compares, by name: readings and weights of SEPO, and every published rival.

`sepo` is the default: every state of these short paths is read, and what a state has decided leaves its return. The
other rows of SEPO differ in one thing at a time from `sepo, 4 states`, which reads some states and regresses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lab_soft import multilinear
from laboratory import Method, Setting

from sepo.objectives import (
    SEPO,
    Advantage,
    AllSites,
    FreshMasks,
    NextSite,
    Objective,
    PPOClip,
    ScoreClip,
    Transitions,
    Unclipped,
)
from sepo.objectives.actor_critic import ActorCritic
from sepo.objectives.advantages import leave_one_out, none, unit
from sepo.objectives.algorithm import Algorithm
from sepo.objectives.algorithms import ALGORITHMS
from sepo.objectives.baselines import StateRegression
from sepo.objectives.drakes import Drakes
from sepo.objectives.neighbours import SNIS, Uniform
from sepo.objectives.readings import CleanScore, FreshNoise, MaskedConditionals, RawLogits
from sepo.objectives.returns import to_go
from sepo.samplers import KernelSampler
from sepo.training.crediting import ByCritic
from sepo.training.elites import Replay

OWN_BETA = ("wdce", "trajectory_balance", "vrpo", "sdpo")
"""Rivals with an option `beta` of their own."""
BETA = 0.1
"""Reward per nat in every world of the laboratory."""
EXACT = ("trajectory_pg", "trajectory_balance")
"""Rivals whose expectation is the gradient itself, not one up to a factor (means over tokens, softmax weights)."""


def plain(objective: Objective) -> Callable[[Setting], Objective]:
    return lambda setting: objective


def kernel(states: int | None) -> Callable[[Setting], Objective]:
    """SEPO in the steps of a sampler with a kernel."""

    def build(setting: Setting) -> Objective:
        assert isinstance(setting.sampler, KernelSampler)
        return SEPO(Transitions(setting.sampler.kernel, states))

    return build


def drakes(hard: bool) -> Callable[[Setting], Objective]:
    """DRAKES through every step, on the multilinear extension of the reward, at the laboratory's price of nats."""

    def build(setting: Setting) -> Objective:
        assert isinstance(setting.sampler, KernelSampler)
        reward = multilinear(setting.world, setting.reward)
        return Drakes(reward, truncate=setting.sampler.steps, alpha=setting.beta, hard=hard).objective()

    return build


REGRESSED = Advantage(leave_one_out, unit, states=StateRegression())
MASKED = (
    Method("sepo", plain(SEPO(NextSite(None))), REGRESSED),
    Method("sepo, not regressed", plain(SEPO(NextSite(None))), enumerable=True),
    Method("sepo, critic", plain(ActorCritic(SEPO(NextSite(None)))), critic=ByCritic()),
    Method("sepo, returns to go", plain(SEPO(NextSite(None))), returns=to_go, enumerable=True),
    Method("sepo, 4 states", plain(SEPO(NextSite(4)))),
    Method("sepo, 1 state", plain(SEPO(NextSite(1)))),
    Method("sepo, all sites", plain(SEPO(AllSites(4)))),
    Method("sepo, all sites, every state", plain(SEPO(AllSites(None))), enumerable=True),
    Method("sepo, fresh masks", plain(SEPO(FreshMasks(4)))),
    Method("sepo, finished", plain(SEPO(MaskedConditionals(None)))),
    Method("sepo, raw logits", plain(SEPO(RawLogits())), rescaled=True),
    Method("sepo, uniform neighbours", plain(SEPO(NextSite(4), neighbours=Uniform()))),
    Method("sepo, snis 2", plain(SEPO(NextSite(4), neighbours=SNIS(2)))),
    Method("sepo, snis 8", plain(SEPO(NextSite(4), neighbours=SNIS(8)))),
    Method("sepo, ppo clip", plain(SEPO(NextSite(4), PPOClip()))),
    Method("sepo, capped", plain(SEPO(NextSite(4), ScoreClip(delta=2.0)))),
    Method("sepo, unclipped", plain(SEPO(NextSite(4), Unclipped()))),
)
WITH_GRADIENT = tuple(
    Method(name, drakes(hard), Advantage(none, unit), sampler=Drakes.sampler, priced=False)
    for name, hard in (("drakes", False), ("drakes, hard states", True))
)
"""Of the reward: these see more of it than its numbers at the rollouts (`lab_soft.multilinear`)."""
UNIFORM = (
    Method("sepo", kernel(None), REGRESSED),
    Method("sepo, not regressed", kernel(None)),
    Method("sepo, 4 states", kernel(4)),
    Method("sepo, 1 state", kernel(1)),
    Method("sepo, fresh noise", plain(SEPO(FreshNoise(4), ScoreClip(delta=2.0)))),
    Method("sepo, clean score", plain(SEPO(CleanScore()))),
)


def rival(name: str, kind: type[Algorithm]) -> Method:
    """A published method with its defaults; beta is the laboratory's where the method has one."""
    algorithm = kind(beta=BETA) if name in OWN_BETA else kind()  # type: ignore[call-arg]
    return Method(
        name,
        plain(algorithm.objective()),
        replace(algorithm.advantage(), scale=unit),
        sampler=kind.sampler,
        priced=algorithm.return_beta != 0,
        rescaled=name not in EXACT,
        replay=Replay() if kind.replays else None,
    )


def methods(process: str) -> list[Method]:
    """Those that apply to a process."""
    if process == "uniform":
        return list(UNIFORM)
    return [*MASKED, *(rival(name, kind) for name, kind in ALGORITHMS.items()), *WITH_GRADIENT]
