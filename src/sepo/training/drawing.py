"""From the strings of a configuration to the algorithm and to what draws its rollouts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from sepo.diffusion.process import Absorbing, Process
from sepo.objectives.algorithm import Algorithm
from sepo.objectives.algorithms import ALGORITHMS, OF_SOFT_REWARDS
from sepo.samplers import Sampler, has_density, require_density, sampler_named
from sepo.samplers.guided import SoftReward, guidance_options, needs_kernel
from sepo.training.guidance import guided_rollouts
from sepo.training.reading_names import chosen


@runtime_checkable
class Options(Protocol):
    """What of `SEPOConfig` describes the objects."""

    algorithm: str
    algorithm_kwargs: Any
    sampler: str | None
    sampler_kwargs: Any
    sampling_steps: int | None
    approximate_rollouts: bool
    rollout_guidance: str | None
    rollout_guidance_kwargs: Any
    reading: str | None
    states: int | None
    weight: str
    importance_sampling_level: str
    epsilon: float
    epsilon_high: float | None
    delta: float | None
    neighbours: str
    snis_draws: int
    baseline: str
    state_baseline: bool
    scale_rewards: Any
    use_critic: bool
    gae_lambda: float
    vf_coef: float
    cliprange_value: float | None
    whiten_advantages: bool
    beta: float
    target_kl: float | None
    path_kl_coef: float
    entropy_coef: float
    replay_kwargs: Any


def build_algorithm(config: Options, soft: SoftReward | None = None) -> Algorithm | None:
    """None is SEPO, which the options of the configuration describe. soft: the reward of those that follow its
    gradient; None: they cannot train, and all else is checked."""
    if config.algorithm == "sepo":
        return None
    kind = chosen("algorithm", config.algorithm, {"sepo": None, **ALGORITHMS, **OF_SOFT_REWARDS})
    options: Any = config.algorithm_kwargs or {}
    of_reward = {"reward": soft or _no_reward} if config.algorithm in OF_SOFT_REWARDS else {}
    known = [field.name for field in fields(kind) if field.name not in of_reward]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(
            f"algorithm_kwargs holds {unknown[0]!r}, which {config.algorithm} does not have; its options are "
            f"{', '.join(known) or 'none'}."
        )
    return kind(**of_reward, **options)


def _no_reward(shares: Tensor) -> Tensor:
    raise ValueError("There is no reward with a gradient.")


def require_soft_reward(config: Options, algorithm: Algorithm | None) -> None:
    """
    Raises:
        ValueError: the algorithm follows the gradient of its reward, and was named without one.
    """
    if algorithm is None and config.algorithm in OF_SOFT_REWARDS:
        raise ValueError(
            f"algorithm={config.algorithm!r} follows the gradient of its reward, and reward functions have none: give "
            f"algorithm={OF_SOFT_REWARDS[config.algorithm].__name__}(reward of one-hot tokens) to the trainer, or "
            "choose a task that offers such a reward on the command line."
        )


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
    with_kernel = not of_masks or needs_kernel(config.rollout_guidance, config.rollout_guidance_kwargs)
    name = config.sampler or asked or ("ancestral" if with_kernel else "first_hitting")
    options: Any = config.sampler_kwargs or {}
    return require_readable(sampler_named(name, config.sampling_steps, options), config, algorithm)


def build_guided(config: Options, process: Process | None = None, algorithm: Algorithm | None = None) -> Sampler:
    """What draws the rollouts: the sampler, or the guidance around it."""
    sampler = build_sampler(config, process, algorithm)
    if config.rollout_guidance is None:
        return sampler
    return guided_rollouts(config.rollout_guidance, config.rollout_guidance_kwargs or {}, sampler, process)


def require_readable(sampler: Sampler, config: Options, algorithm: Algorithm | None) -> Sampler:
    """The sampler, whose paths have a density wherever the algorithm, None: SEPO, or a term of the loss reads one.

    Raises:
        ValueError: they have none, and it is read.
    """
    if algorithm is None or not algorithm.any_sampler:
        return require_density(sampler, config.approximate_rollouts)
    if (config.path_kl_coef or config.entropy_coef) and not has_density(sampler, config.approximate_rollouts):
        raise ValueError(
            f"path_kl_coef={config.path_kl_coef}, entropy_coef={config.entropy_coef} are of the policy's own paths, "
            f"and {type(sampler).__name__} draws others: leave both 0, or choose another sampler."
        )
    return sampler


def require_guidance(config: Options) -> None:
    """
    Raises:
        ValueError: the guidance of rollouts is not known, has other options, or is none of this algorithm's.
    """
    name, options = config.rollout_guidance, config.rollout_guidance_kwargs or {}
    if name is None:
        if options:
            raise ValueError(
                f"rollout_guidance_kwargs={dict(options)}: there is no guidance; name one with rollout_guidance."
            )
        return
    guidance_options(name, options)
    algorithm = build_algorithm(config)
    if algorithm is None or not algorithm.any_sampler:
        able = ", ".join(name for name, kind in ALGORITHMS.items() if kind.any_sampler)
        raise ValueError(
            f"rollout_guidance={name!r}: guided draws do not have the policy's density, which algorithm="
            f"{config.algorithm!r} takes ratios or gradients of; choose one that reads none ({able}), or guide samples "
            "alone, by `sepo sample --guidance`."
        )


def require_paths(algorithm: Algorithm, process: Process, sampler: Sampler) -> None:
    """
    Raises:
        ValueError: the method reads masks and the process has none, or paths that this sampler does not take.
    """
    kind = type(algorithm).__name__
    if algorithm.needs is not None and not isinstance(process, Absorbing):
        raise ValueError(
            f"{kind} reads masked sites, but the model's process is {type(process).__name__}; choose algorithm='sepo', "
            "which reads any process."
        )
    if algorithm.needs == "paths" and sampler.revisits:
        raise ValueError(
            f"{kind} reads paths that fill each mask once, but {type(sampler).__name__} visits sites again; leave "
            "sampler out, or choose algorithm='sepo'."
        )
