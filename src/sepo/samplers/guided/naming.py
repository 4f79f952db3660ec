"""Guidance by name, with its options: the door for command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sepo.samplers.ancestral import Ancestral
from sepo.samplers.base import Sampler
from sepo.samplers.guided.best_of_n import BestOfN
from sepo.samplers.guided.classifier import ClassifierGuidance
from sepo.samplers.guided.classifier_free import ClassifierFree
from sepo.samplers.guided.smc import SMC
from sepo.samplers.guided.svdd import SVDD
from sepo.samplers.guided.tds import TDS

NAMED = ("value", "value_kwargs", "unconditional", "proposal")
"""Options that are no numbers: models, or names of them."""
LEARNED = "learned"
"""The value that is learned when it is asked for."""
GUIDANCE: dict[str, type] = {
    "best_of_n": BestOfN,
    "svdd": SVDD,
    "smc": SMC,
    "tds": TDS,
    "classifier": ClassifierGuidance,
    "classifier_free": ClassifierFree,
}
SOFT = ("tds", "classifier")
"""Those whose reward is of soft tokens, and has a gradient; the others take any reward."""
UNREWARDED = ("classifier_free",)
"""Those that a second model leads: they have no reward."""
ANY_INNER = ("best_of_n", "classifier_free")
"""Those around any sampler; the others need one with a kernel."""
OBJECTS = ("inner", "reward", "proposal", "told")
"""Fields that are no options: what stands for them is an object."""
VALUED = ("svdd", "smc")
"""Those with a value of states, which may also be a name, `learned` or a folder, for whoever opens it; `value_kwargs`
are then options of learning it."""


def guidance_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a guidance, checked by name and range; whole numbers stand for real ones too.

    Raises:
        ValueError: there is no such guidance, it has no such option, it lacks one that has no default, or a number is
            none, not whole where it must be, or out of range.
    """
    if name not in GUIDANCE:
        raise ValueError(f"guidance={name!r}: choose one of {', '.join(GUIDANCE)}.")
    known = {each.name: each.default for each in fields(GUIDANCE[name]) if each.name not in OBJECTS}
    if name in VALUED:
        known["value_kwargs"] = None
    unknown = sorted(options.keys() - known.keys())
    lacking = [each for each, default in known.items() if default is MISSING and each not in options]
    if unknown or lacking:
        fault = f"holds {unknown[0]!r}, which it does not have" if unknown else f"lacks {lacking[0]!r}"
        raise ValueError(f"guidance={name!r}: guidance_kwargs {fault}; its options are {', '.join(known)}.")
    kinds = {each.name: str(each.type) for each in fields(GUIDANCE[name])}
    if options.get("value_kwargs") and options.get("value") != LEARNED:
        raise ValueError(
            f"guidance={name!r}: guidance_kwargs.value_kwargs={options['value_kwargs']} are of learning a value, and "
            f"value={options.get('value')!r}: set it to {LEARNED!r}."
        )
    chosen = {each: _typed(name, each, value, kinds.get(each, "")) for each, value in options.items()}
    numbers = {each: value for each, value in chosen.items() if each not in NAMED}
    GUIDANCE[name](inner=Ancestral(1), **_led(name, _unasked), **numbers)  # it looks at their ranges
    return chosen


def _unasked(x: Any) -> Any:
    raise NotImplementedError("Nothing is drawn: a guidance is built for the range of its options alone.")


def _led(name: str, reward: Any) -> dict[str, Any]:
    return {} if name in UNREWARDED else {"reward": reward}


def needs_kernel(name: str | None, options: Mapping[str, Any] | None = None) -> bool:
    """Whether the guidance is around samplers with a kernel alone, or around them at its best: prompts at different
    places can be masked where all rows are read at every step."""
    masks_prompts = name in UNREWARDED and (options or {}).get("unconditional") is None
    return name is not None and (name not in ANY_INNER or masks_prompts)


def is_guided(sampler: Any) -> bool:
    """Whether it is one of the table, around another sampler."""
    return isinstance(sampler, tuple(GUIDANCE.values()))


def unguided(sampler: Any) -> Any:
    """The sampler inside all guidance: how the policy draws by itself."""
    while is_guided(sampler):
        sampler = sampler.inner
    return sampler


def population_size(sampler: Any) -> int:
    """Consecutive rows of the same prompt that are drawn as one population; 1: rows do not know of each other."""
    if isinstance(sampler, (SMC, TDS)):
        return sampler.particles
    return population_size(sampler.inner) if is_guided(sampler) else 1


def _typed(name: str, option: str, value: Any, kind: str) -> Any:
    """A whole number as a real one where the field is of that kind; whole ones and switches as they are."""
    exact = {"int": (int, "a whole number, such as 4"), "bool": (bool, "true or false")}
    if kind in exact and type(value) is not exact[kind][0]:
        raise ValueError(f"guidance={name!r}: guidance_kwargs.{option}={value!r} must be {exact[kind][1]}.")
    if "float" not in kind or isinstance(value, float) or (value is None and "None" in kind):
        return value
    if type(value) is not int:
        raise ValueError(
            f"guidance={name!r}: guidance_kwargs.{option}={value!r} must be a number, such as 0.5; 1e-3 is written "
            "1.0e-3."
        )
    return float(value)


def guided(name: str, inner: Sampler, reward: Any, options: Mapping[str, Any]) -> Sampler:
    """The sampler around `inner`; reward: of tokens, of soft tokens for the names in SOFT, unused for UNREWARDED.

    Raises:
        ValueError: there is no such guidance, or its options or the inner sampler do not fit.
    """
    chosen = guidance_options(name, options)
    chosen.pop("value_kwargs", None)
    return GUIDANCE[name](inner=inner, **_led(name, reward), **chosen)
