"""Guidance by name, with its options: the door for command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sepo.samplers.base import Sampler
from sepo.samplers.guided.best_of_n import BestOfN
from sepo.samplers.guided.classifier import ClassifierGuidance
from sepo.samplers.guided.smc import SMC
from sepo.samplers.guided.svdd import SVDD
from sepo.samplers.guided.tds import TDS

GUIDANCE: dict[str, type] = {
    "best_of_n": BestOfN,
    "svdd": SVDD,
    "smc": SMC,
    "tds": TDS,
    "classifier": ClassifierGuidance,
}
SOFT = ("tds", "classifier")
"""Those whose reward is of soft tokens, and has a gradient; the others take any reward."""
ANY_INNER = ("best_of_n",)
"""Those around any sampler; the others need one with a kernel."""
OBJECTS = ("inner", "reward", "value", "proposal")
"""Fields that are no options: what stands for them is an object."""


def guidance_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a guidance, checked by name; whole numbers stand for real ones too.

    Raises:
        ValueError: there is no such guidance, it has no such option, or it lacks one that has no default.
    """
    if name not in GUIDANCE:
        raise ValueError(f"guidance={name!r}: choose one of {', '.join(GUIDANCE)}.")
    known = {each.name: each.default for each in fields(GUIDANCE[name]) if each.name not in OBJECTS}
    unknown = sorted(options.keys() - known.keys())
    lacking = [each for each, default in known.items() if default is MISSING and each not in options]
    if unknown or lacking:
        fault = f"holds {unknown[0]!r}, which it does not have" if unknown else f"lacks {lacking[0]!r}"
        raise ValueError(f"guidance={name!r}: guidance_kwargs {fault}; its options are {', '.join(known)}.")
    real = {each.name for each in fields(GUIDANCE[name]) if "float" in str(each.type)}
    return {each: float(value) if each in real and type(value) is int else value for each, value in options.items()}


def guided(name: str, inner: Sampler, reward: Any, options: Mapping[str, Any]) -> Sampler:
    """The sampler around `inner`; reward: of tokens, or of soft tokens for the names in SOFT.

    Raises:
        ValueError: there is no such guidance, or its options or the inner sampler do not fit.
    """
    chosen = guidance_options(name, options)
    return GUIDANCE[name](inner=inner, reward=reward, **chosen)
