"""From the strings of a configuration to the objects that do the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sepo.diffusion.process import Process
from sepo.objectives import SEPO, ActorCritic, Advantage, EntropyBonus, Objective, PathKL, Total, Unclipped
from sepo.objectives.advantages import BASELINES, SCALES, none, unit
from sepo.objectives.algorithm import Algorithm
from sepo.objectives.base import Penalty
from sepo.objectives.baselines import StateRegression
from sepo.objectives.neighbours import NEIGHBOURS, SNIS, Neighbours
from sepo.objectives.readings import AllSites, NextSite, Transitions
from sepo.objectives.sepo import LEVELS
from sepo.objectives.weights import WEIGHTS, Reinforce, Weight
from sepo.samplers import Sampler
from sepo.samplers.guided import unguided
from sepo.training.crediting import ByCritic
from sepo.training.drawing import (
    Options,
    build_algorithm,
    build_guided,
    build_sampler,
    require_paths,
    require_readable,
    require_soft_reward,
)
from sepo.training.elites import Replay
from sepo.training.reading_names import chosen, reading_named

OF_OBJECTIVE = (
    *("reading", "states", "weight", "importance_sampling_level", "epsilon", "epsilon_high", "delta"),
    *("neighbours", "snis_draws"),
)
OF_ADVANTAGE = ("baseline", "state_baseline", "scale_rewards")
OF_SEPO = (*OF_OBJECTIVE, *OF_ADVANTAGE, "use_critic")
"""Options that describe SEPO; another algorithm has its own."""

OF_CRITIC = ("gae_lambda", "vf_coef", "cliprange_value", "whiten_advantages")
OF_GROUPS = ("baseline", "scale_rewards")
"""Options of a critic, and of the comparison within groups that it replaces."""


@dataclass(frozen=True)
class Parts:
    """What a method is made of. beta: reward per nat of path KL, in the return; critic, replay: None without one;
    guided: around the sampler, draws the rollouts."""

    sampler: Sampler
    objective: Objective
    advantage: Advantage
    beta: float
    critic: ByCritic | None = None
    replay: Replay | None = None
    guided: Sampler | None = None


def build_parts(config: Options, process: Process, algorithm: Algorithm | None = None, **given: Any) -> Parts:
    """given: sampler, objective or advantage in place of what is described; None: as described."""
    require_soft_reward(config, algorithm)
    algorithm = algorithm or build_algorithm(config)
    drawing = given.get("sampler") or build_guided(config, process, algorithm)
    require_readable(drawing, config, None if given.get("objective") else algorithm)
    sampler: Sampler = unguided(drawing)
    guided = None if sampler is drawing else drawing
    objective = given.get("objective") or build_objective(config, process, sampler, algorithm)
    advantage = given.get("advantage") or build_advantage(config, algorithm)
    if algorithm is not None and given.get("objective") is None:
        require_paths(algorithm, process, sampler)
    beta = _price(config, algorithm)
    critic = build_critic(config, process, sampler)
    return Parts(sampler, objective, advantage, beta, critic, build_replay(config, algorithm), guided)


def _price(config: Options, algorithm: Algorithm | None) -> float:
    """Reward per nat, in the return.

    Raises:
        ValueError: the configuration says one thing and the method another.
    """
    asked = None if algorithm is None else algorithm.return_beta
    if asked is None:
        return config.beta
    kind = type(algorithm).__name__
    if config.beta not in (0.0, asked):
        raise ValueError(
            f"beta={config.beta}: {kind} prices nats itself, at {asked} in the return; leave beta out and set its own."
        )
    if config.target_kl is not None:
        raise ValueError(
            f"target_kl={config.target_kl} moves beta, but {kind} prices nats itself, at {asked}; leave it out."
        )
    return asked


def build_objective(
    config: Options,
    process: Process | None = None,
    sampler: Sampler | None = None,
    algorithm: Algorithm | None = None,
) -> Objective:
    """process=None: of masks; sampler=None: the configuration's."""
    algorithm = algorithm or build_algorithm(config)
    objective: Objective = _sepo(config, process, sampler) if algorithm is None else algorithm.objective()
    if config.use_critic:
        objective = ActorCritic(objective, config.vf_coef, config.cliprange_value, _along_path(config))
    penalties: list[tuple[float, Penalty]] = []
    if config.path_kl_coef:
        penalties.append((config.path_kl_coef, PathKL()))
    if config.entropy_coef:
        penalties.append((config.entropy_coef, EntropyBonus()))
    return Total(objective, tuple(penalties)) if penalties else objective


def build_advantage(config: Options, algorithm: Algorithm | None = None) -> Advantage:
    algorithm = algorithm or build_algorithm(config)
    if algorithm is not None:
        return algorithm.advantage()
    if config.use_critic:
        return Advantage(none, unit)
    scale: Any = {True: "group", False: "none"}.get(config.scale_rewards, config.scale_rewards)
    baseline, divisor = chosen("baseline", config.baseline, BASELINES), chosen("scale_rewards", scale, SCALES)
    return Advantage(baseline, divisor, states=StateRegression() if config.state_baseline else None)


def build_critic(config: Options, process: Process | None = None, sampler: Sampler | None = None) -> ByCritic | None:
    """None without a critic; process and sampler as in `build_objective`.

    Raises:
        ValueError: values along the path are asked for, and the reading is none of the path.
    """
    if not config.use_critic:
        return None
    if not _along_path(config):
        return ByCritic()
    reading = reading_named(config.reading, config.states, process, sampler or build_sampler(config, process))
    if not isinstance(reading, (NextSite, AllSites, Transitions)):
        raise ValueError(
            f"gae_lambda={config.gae_lambda}, whiten_advantages={config.whiten_advantages} need the values of the path "
            f"that the sampler took, but reading={config.reading!r} reads elsewhere; choose gae_lambda=1 without "
            "whitening, or reading='next_site'."
        )
    return ByCritic(replace(reading, states=None), config.gae_lambda, config.whiten_advantages)


def build_replay(config: Options, algorithm: Algorithm | None = None) -> Replay | None:
    """None: elites are neither learned again nor searched around."""
    algorithm = algorithm or build_algorithm(config)
    if config.replay_kwargs is None and not (algorithm is not None and algorithm.replays):
        return None
    options: Any = config.replay_kwargs or {}
    known = [field.name for field in fields(Replay)]
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(f"replay_kwargs holds {unknown[0]!r}; its options are {', '.join(known)}.")
    replay = Replay(**options)
    if algorithm is not None and algorithm.replays and not replay.coef:
        raise ValueError(
            "replay_kwargs: coef=0 leaves an algorithm that learns from elites alone nothing: set it above 0."
        )
    return replay


def require_one_method(config: Options) -> None:
    """
    Raises:
        ValueError: options of SEPO are set beside another algorithm, or options of another one beside SEPO; those of a
            critic without one, or those of groups beside it.
    """
    _require_one_baseline(config)
    if config.algorithm == "sepo":
        if config.algorithm_kwargs:
            raise ValueError(
                f"algorithm_kwargs={config.algorithm_kwargs}: the options of sepo are those of the configuration "
                f"itself ({', '.join(OF_SEPO)}); set them there, or choose another algorithm."
            )
        return
    for name, value in _changed(config, OF_SEPO):
        raise ValueError(
            f"{name}={value!r} is an option of sepo, but algorithm={config.algorithm!r}: give its own options as "
            "algorithm_kwargs."
        )


def _require_one_baseline(config: Options) -> None:
    for name, value in _changed(config, OF_GROUPS if config.use_critic else OF_CRITIC):
        if config.use_critic:
            raise ValueError(
                f"{name}={value!r} compares sequences of a group, which a critic replaces; leave it out, or set "
                "use_critic=False."
            )
        raise ValueError(f"{name}={value!r} is an option of a critic, and there is none; set use_critic=True.")


def _changed(config: Options, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The options among `names` that are not as they are by default."""
    defaults = {field.name: field.default for field in fields(config)}  # type: ignore[arg-type]
    return ((name, vars(config)[name]) for name in names if vars(config)[name] != defaults[name])


def _along_path(config: Options) -> bool:
    """Whether values are read at all states of the path when it is collected."""
    return config.gae_lambda != 1 or config.whiten_advantages


def _sepo(config: Options, process: Process | None, sampler: Sampler | None) -> SEPO:
    kind = chosen("weight", config.weight, WEIGHTS)
    of_clip = () if kind in (Unclipped, Reinforce) else (config.epsilon, config.epsilon_high, config.delta)
    weight: Weight = kind(*of_clip)
    of_neighbours = chosen("neighbours", config.neighbours, NEIGHBOURS)
    neighbours: Neighbours = of_neighbours(config.snis_draws) if of_neighbours is SNIS else of_neighbours()
    reading = reading_named(config.reading, config.states, process, sampler or build_sampler(config, process))
    level = chosen("importance_sampling_level", config.importance_sampling_level, LEVELS)
    return SEPO(reading, weight, neighbours, level)
