"""One batch to be rewarded, and the keyword arguments that a reward gets of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sepo.rewards.errors import RewardError
from sepo.rewards.logbook import Logbook

RESERVED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""The arguments that are not columns of the dataset."""


@dataclass(frozen=True, eq=False)
class Request:
    """prompts, completions, completion_ids and every column have one entry per completion; completion_ids may be
    unknown."""

    prompts: Sequence[Any]
    completions: Sequence[Any]
    completion_ids: Sequence[Any] | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    trainer_state: Any = None

    def __post_init__(self) -> None:
        if len(self.completions) == 0:
            raise ValueError("There are no completions to reward: hand at least one.")
        taken = [column for column in self.columns if column in RESERVED]
        if taken:
            raise ValueError(
                f"The dataset has the column {taken[0]!r}, which is the name of an argument that every reward gets; "
                f"rename the column (taken are {', '.join(RESERVED)})."
            )
        for name, values in self.per_completion().items():
            if len(values) != len(self.completions):
                raise ValueError(
                    f"{name!r} has {len(values)} entries and there are {len(self.completions)} completions: rewards "
                    "need one each."
                )

    def per_completion(self) -> dict[str, Sequence[Any]]:
        """The arguments with one entry per completion."""
        known = {} if self.completion_ids is None else {"completion_ids": self.completion_ids}
        return {"prompts": self.prompts, "completions": self.completions, **known, **self.columns}

    def keywords(self, logbook: Logbook) -> dict[str, Any]:
        """All that a reward can ask for. The lists are copies: a reward that changes its own does not change
        another's."""
        lists = {name: list(values) for name, values in self.per_completion().items()}
        logs = {"log_extra": logbook.log_extra, "log_metric": logbook.log_metric}
        return {**lists, "trainer_state": self.trainer_state, **logs}


def accepted(reward: Callable[..., Any], keywords: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All keywords for a reward with **kwargs, else those that its signature names.

    Raises:
        RewardError: it needs an argument that there is not.
    """
    try:
        signature = inspect.signature(reward.forward if isinstance(reward, torch.nn.Module) else reward)
    except (TypeError, ValueError):  # built in: it has no signature to read
        return dict(keywords)
    parameters = signature.parameters.values()
    for parameter in parameters:
        if (
            parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            or parameter.default is not parameter.empty
        ):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY or parameter.name not in keywords:
            raise RewardError(
                f"The reward {name!r} needs the argument {parameter.name!r}, and rewards get, by keyword, "
                f"{', '.join(keywords)} (those that are not TRL's are the columns of the dataset). Rename it, give "
                "it a default, or add the column.",
                name,
            )
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(keywords)
    return {name: value for name, value in keywords.items() if name in signature.parameters}
