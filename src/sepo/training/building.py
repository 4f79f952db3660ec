"""From the strings of a configuration to the objects that do the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from sepo.diffusion.process import Absorbing, Process
from sepo.objectives import SEPO, Advantage, EntropyBonus, Objective, PathKL, Total, Unclipped
from sepo.objectives.advantages import BASELINES, SCALES
from sepo.objectives.algorithm import Algorithm
from sepo.objectives.algorithms import ALGORITHMS
from sepo.objectives.base import Penalty
from sepo.objectives.neighbours import NEIGHBOURS, SNIS, Neighbours
from sepo.objectives.readings import FIXED, READINGS, Transitions, Where
from sepo.objectives.weights import WEIGHTS, Weight
from sepo.samplers import SAMPLERS, KernelSampler, Sampler

OF_SEPO = (
    *("reading", "states", "weight", "epsilon", "epsilon_high", "delta", "neighbours", "snis_draws"),
    *("baseline", "scale_rewards"),
)
"""Options that describe SEPO; another algorithm has its own."""


@runtime_checkable
class Options(Protocol):
    """What of `SEPOConfig` describes the objects."""

    algorithm: str
    algorithm_kwargs: Any
    sampler: str | None
    sampling_steps: int | None
    reading: str | None
    states: int | None
    weight: str
    epsilon: float
    epsilon_high: float | None
    delta: float | None
    neighbours: str
    snis_draws: int
    baseline: str
    scale_rewards: Any
    beta: float
    path_kl_coef: float
    entropy_coef: float


@dataclass(frozen=True)
class Parts:
    """What a method is made of. beta: reward per nat of path KL, in the return."""

    sampler: Sampler
    objective: Objective
    advantage: Advantage
    beta: float


def build_parts(config: Options, process: Process, algorithm: Algorithm | None = None, **given: Any) -> Parts:
    """given: sampler, objective or advantage in place of what is described; None: as described."""
    algorithm = algorithm or build_algorithm(config)
    sampler = given.get("sampler") or build_sampler(config, process, algorithm)
    objective = given.get("objective") or build_objective(config, process, sampler, algorithm)
    advantage = given.get("advantage") or build_advantage(config, algorithm)
    asked = None if algorithm is None else algorithm.return_beta
    if asked is not None and config.beta not in (0.0, asked):
        raise ValueError(
            f"beta={config.beta}: {type(algorithm).__name__} prices nats itself, at {asked} in the return; leave beta "
            "out and give its own option."
        )
    return Parts(sampler, objective, advantage, config.beta if asked is None else asked)


def build_algorithm(config: Options) -> Algorithm | None:
    """None is SEPO, which the options of the configuration describe."""
    if config.algorithm == "sepo":
        return None
    kind = chosen("algorithm", config.algorithm, {"sepo": None, **ALGORITHMS})
    options: Any = config.algorithm_kwargs or {}
    known = [field.name for field in fields(kind)]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(
            f"algorithm_kwargs holds {unknown[0]!r}, which {config.algorithm} does not have; its options are "
            f"{', '.join(known) or 'none'}."
        )
    return kind(**options)


def build_sampler(config: Options, process: Process | None = None, algorithm: Algorithm | None = None) -> Sampler:
    """process=None: of masks."""
    algorithm = algorithm or build_algorithm(config)
    asked = None if algorithm is None else algorithm.sampler
    if asked is not None and config.sampler not in (None, asked):
        raise ValueError(
            f"sampler={config.sampler!r}: {type(algorithm).__name__} reads rollouts of the sampler {asked!r}; leave "
            "sampler out."
        )
    of_masks = process is None or isinstance(process, Absorbing)
    name = config.sampler or asked or ("first_hitting" if of_masks else "ancestral")
    kind = chosen("sampler", name, SAMPLERS)
    return kind() if config.sampling_steps is None else kind(config.sampling_steps)


def build_objective(
    config: Options,
    process: Process | None = None,
    sampler: Sampler | None = None,
    algorithm: Algorithm | None = None,
) -> Objective:
    """process=None: of masks; sampler=None: the configuration's."""
    algorithm = algorithm or build_algorithm(config)
    objective = _sepo(config, process, sampler) if algorithm is None else algorithm.objective()
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
    scale: Any = {True: "group", False: "none"}.get(config.scale_rewards, config.scale_rewards)
    return Advantage(chosen("baseline", config.baseline, BASELINES), chosen("scale_rewards", scale, SCALES))


def require_one_method(config: Options) -> None:
    """
    Raises:
        ValueError: options of SEPO are set beside another algorithm, or options of another one beside SEPO.
    """
    if config.algorithm == "sepo":
        if config.algorithm_kwargs:
            raise ValueError(
                f"algorithm_kwargs={config.algorithm_kwargs}: the options of sepo are those of the configuration "
                f"itself ({', '.join(OF_SEPO)}); set them there, or choose another algorithm."
            )
        return
    defaults = {field.name: field.default for field in fields(config)}  # type: ignore[arg-type]
    for name in OF_SEPO:
        value = vars(config)[name]
        if value != defaults[name]:
            raise ValueError(
                f"{name}={value!r} is an option of sepo, but algorithm={config.algorithm!r}: give its own options as "
                "algorithm_kwargs."
            )


def chosen(option: str, value: str, table: Mapping[str, Any]) -> Any:
    """table[value], or an error that lists what there is."""
    if value not in table:
        raise ValueError(f"{option}={value!r}: choose one of {', '.join(table)}.")
    return table[value]


def _sepo(config: Options, process: Process | None, sampler: Sampler | None) -> SEPO:
    kind = chosen("weight", config.weight, WEIGHTS)
    weight: Weight = kind() if kind is Unclipped else kind(config.epsilon, config.epsilon_high, config.delta)
    of_neighbours = chosen("neighbours", config.neighbours, NEIGHBOURS)
    neighbours: Neighbours = of_neighbours(config.snis_draws) if of_neighbours is SNIS else of_neighbours()
    return SEPO(_reading(config, process, sampler or build_sampler(config, process)), weight, neighbours)


def _reading(config: Options, process: Process | None, sampler: Sampler) -> Where:
    fills_once = (process is None or isinstance(process, Absorbing)) and not sampler.revisits
    name = config.reading or ("next_site" if fills_once else "transitions")
    if name == "transitions":
        if not isinstance(sampler, KernelSampler):
            raise ValueError(
                f"reading='transitions' needs a sampler with a kernel, such as ancestral, and {type(sampler).__name__} "
                "has none; choose another sampler or reading='next_site'."
            )
        return Transitions(sampler.kernel, config.states)
    if name in FIXED:
        return FIXED[name]()
    return chosen("reading", name, {**READINGS, **FIXED, "transitions": None})(config.states)
