"""Samplers by name, with their options: the door for command lines and configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sepo.samplers.ancestral import Ancestral
from sepo.samplers.base import Sampler
from sepo.samplers.blocks import Blocks
from sepo.samplers.confidence import Confidence
from sepo.samplers.dplm import DPLM
from sepo.samplers.first_hitting import FirstHitting
from sepo.samplers.gibbs import Gibbs
from sepo.samplers.left_to_right import LeftToRight
from sepo.samplers.predictor_corrector import PredictorCorrector
from sepo.samplers.remdm import ReMDM
from sepo.samplers.tau_leaping import TauLeaping

SAMPLERS: dict[str, type] = {
    "first_hitting": FirstHitting,
    "left_to_right": LeftToRight,
    "ancestral": Ancestral,
    "tau_leaping": TauLeaping,
    "predictor_corrector": PredictorCorrector,
    "remdm": ReMDM,
    "gibbs": Gibbs,
    "confidence": Confidence,
    "dplm": DPLM,
}
COMPOSED: dict[str, type] = {"blocks": Blocks}
"""Around another sampler of the table, whose name is the option `inner` and whose options are `inner_kwargs`."""


def sampler_named(name: str, steps: int | None = None, options: Mapping[str, Any] | None = None) -> Sampler:
    """steps: the first option of every sampler, None: its default, and of those in COMPOSED that of the inner one;
    options: the others, by name.

    Raises:
        ValueError: there is no such sampler, or it has no such option.
    """
    if name in COMPOSED:
        return _composed(name, steps, dict(options or {}))
    if name not in SAMPLERS:
        raise ValueError(f"sampler={name!r}: choose one of {', '.join([*SAMPLERS, *COMPOSED])}.")
    first, *others = (field.name for field in fields(SAMPLERS[name]))
    unknown = sorted(set(options or {}) - set(others))
    if unknown:
        raise ValueError(
            f"sampler_kwargs holds {unknown[0]!r}, which {name} does not have; beside the number of steps its options "
            f"are: {', '.join(others) or 'none'}."
        )
    return SAMPLERS[name](**({} if steps is None else {first: steps}), **(options or {}))


def _composed(name: str, steps: int | None, options: dict[str, Any]) -> Sampler:
    inner = sampler_named(str(options.pop("inner", "ancestral")), steps, options.pop("inner_kwargs", None))
    known = [field.name for field in fields(COMPOSED[name]) if field.name != "inner"]
    unknown, lacking = sorted(options.keys() - set(known)), [each for each in known if each not in options]
    if unknown or lacking:
        fault = f"holds {unknown[0]!r}, which {name} does not have" if unknown else f"lacks {lacking[0]!r}"
        raise ValueError(
            f"sampler_kwargs {fault}; its options are {', '.join(known)}, and inner, the name of a sampler, with "
            "inner_kwargs, its options."
        )
    return COMPOSED[name](inner, **options)
