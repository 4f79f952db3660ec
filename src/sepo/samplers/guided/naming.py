"""Guidance by name, with its options: the door for command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sepo.samplers.base import Sampler
from sepo.samplers.guided.best_of_n import BestOfN
from sepo.samplers.guided.classifier import ClassifierGuidance
from sepo.samplers.guided.classifier_free import ClassifierFree
from sepo.samplers.guided.smc import SMC
from sepo.samplers.guided.svdd import SVDD
from sepo.samplers.guided.tds import TDS

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
OBJECTS = ("inner", "reward", "value", "proposal")
"""Fields that are no options: what stands for them is an object."""


def guidance_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a guidance, checked by name; whole numbers stand for real ones too.

    Raises:
        ValueError: there is no such guidance, it has no such option, it lacks one that has no default, or a real
            number is none.
    """
    if name not in GUIDANCE:
        raise ValueError(f"guidance={name!r}: choose one of {', '.join(GUIDANCE)}.")
    known = {each.name: each.default for each in fields(GUIDANCE[name]) if each.name not in OBJECTS}
    unknown = sorted(options.keys() - known.keys())
    lacking = [each for each, default in known.items() if default is MISSING and each not in options]
    if unknown or lacking:
        fault = f"holds {unknown[0]!r}, which it does not have" if unknown else f"lacks {lacking[0]!r}"
        raise ValueError(f"guidance={name!r}: guidance_kwargs {fault}; its options are {', '.join(known)}.")
    kinds = {each.name: str(each.type) for each in fields(GUIDANCE[name])}
    return {each: _real(name, each, value, kinds[each]) for each, value in options.items()}


def _real(name: str, option: str, value: Any, kind: str) -> Any:
    """A whole number as a real one where the field is of that kind."""
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
    led = {} if name in UNREWARDED else {"reward": reward}
    return GUIDANCE[name](inner=inner, **led, **chosen)
