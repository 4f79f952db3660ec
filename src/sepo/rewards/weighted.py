"""Rewards: a list of reward functions and models with weights, called as one.

The functions have TRL's signature; what they return, log and fail with is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sepo.rewards.calls import Answer, Reward, RewardCalls, answers
from sepo.rewards.errors import RewardError
from sepo.rewards.logbook import joined_extras, joined_metrics
from sepo.rewards.messages import shortened
from sepo.rewards.named import reward_names
from sepo.rewards.request import Request
from sepo.rewards.reward_model import RewardModel, is_model
from sepo.rewards.scores import Scores, reward_metrics, weighted_total
from sepo.rewards.spelled import Spelled
from sepo.rewards.values import read_values


@dataclass(frozen=True)
class Rewards:
    """The functions, the weight and the unique name of each, and how they are called. `Rewards.of` makes one."""

    functions: tuple[Reward, ...]
    weights: tuple[float, ...]
    names: tuple[str, ...]
    calls: RewardCalls = field(default_factory=RewardCalls)

    def __post_init__(self) -> None:
        if not self.functions:
            raise ValueError("There is no reward: give reward_funcs at least one function, model or model id.")
        if len(self.weights) != len(self.functions):
            raise ValueError(
                f"reward_weights has {len(self.weights)} weights for {len(self.functions)} rewards: give one each, "
                "or None for all 1."
            )
        if not all(map(math.isfinite, self.weights)) or not any(self.weights):
            raise ValueError(f"reward_weights={list(self.weights)}: weights must be finite, and at least one not 0.")
        if len(set(self.names)) != len(self.functions):
            raise ValueError(f"names={list(self.names)}: {len(self.functions)} rewards need as many different names.")

    @staticmethod
    def of(
        reward_funcs: Any,
        weights: Sequence[float | int] | None = None,
        processing_classes: Any = None,
        calls: RewardCalls | None = None,
        model_init_kwargs: Mapping[str, Any] | None = None,
    ) -> Rewards:
        """Rewards as TRL's trainers take them.

        Args:
            reward_funcs: a reward or a list of them: a function, sync or async; a sequence-classification model; its
                folder or hub id.
            weights: one number per reward; None: all 1. A reward of weight 0 is only watched.
            processing_classes: the tokenizer of a reward model, or a list as long as `reward_funcs` with None for
                functions and for models that come with theirs.
            calls: timeout, retries and what NaN means.
            model_init_kwargs: for `from_pretrained` of models given by name.

        Raises:
            ValueError: no reward, something that is not one, lists of different lengths, a model that gives no single
                number.
        """
        functions = list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else [reward_funcs]
        tokenizers = list(processing_classes) if isinstance(processing_classes, (list, tuple)) else [processing_classes]
        if processing_classes is None:
            tokenizers = [None] * len(functions)
        if len(tokenizers) != len(functions):
            raise ValueError(
                f"reward_processing_classes has {len(tokenizers)} entries for {len(functions)} rewards: give one "
                "each, None for functions."
            )
        ready = tuple(
            _callable(position, function, tokenizer, model_init_kwargs or {})
            for position, (function, tokenizer) in enumerate(zip(functions, tokenizers, strict=True))
        )
        chosen = (1.0,) * len(ready) if weights is None else tuple(map(float, weights))
        return Rewards(ready, chosen, reward_names(ready), calls or RewardCalls())

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Any] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        trainer_state: Any = None,
    ) -> Scores:
        """The scores of a batch. `columns`: those of the dataset, one entry per completion.

        Raises:
            RewardError: a reward failed, or returned or logged what it must not; the message names it, the completion
                and the remedy.
            ValueError: no completions, lists of different lengths, a column named like an argument.
        """
        request = Request(prompts, completions, completion_ids, columns or {}, trainer_state)
        found = answers(self.functions, self.names, request, self.calls)
        values, dropped = [], []
        for name, answer in zip(self.names, found, strict=True):
            numbers, not_finite = read_values(answer.returned, name, request.completions, self.calls.non_finite_as_none)
            values.append([math.nan if number is None else number for number in numbers])
            dropped.append(not_finite)
        per_function = torch.tensor(values, dtype=torch.float64).T.contiguous()
        total = weighted_total(per_function, self.weights)
        metrics = reward_metrics(self.names, per_function, total) | self._counts(found, dropped)
        pages = {name: answer.logbook for name, answer in zip(self.names, found, strict=True)}
        logged = joined_metrics(pages)
        if taken := metrics.keys() & logged.keys():
            raise RewardError(f"log_metric({min(taken)!r}, ...): this metric is already there; choose another name.")
        return Scores(per_function, total, self.names, metrics | logged, joined_extras(pages, len(total)))

    def to(self, device: torch.device | str) -> Rewards:
        """Reward models that sit on the CPU move to `device`; those that were put on an accelerator stay."""
        for function in self.functions:
            model = function.reward if isinstance(function, Spelled) else function
            if isinstance(model, RewardModel):
                model.to(device)
        return self

    def _counts(self, found: Sequence[Answer], dropped: Sequence[int]) -> dict[str, float]:
        """What went wrong and was survived; only what the options allow to survive has a metric."""
        counts: dict[str, float] = {}
        for name, answer, not_finite in zip(self.names, found, dropped, strict=True):
            if self.calls.retries:
                counts[f"rewards/{name}/retries"] = float(answer.retries)
                if self.calls.timeout is not None:
                    counts[f"rewards/{name}/timeouts"] = float(answer.timeouts)
            if self.calls.non_finite_as_none:
                counts[f"rewards/{name}/non_finite"] = float(not_finite)
        return counts


def _callable(position: int, function: Any, tokenizer: Any, model_init_kwargs: Mapping[str, Any]) -> Reward:
    if isinstance(function, str):
        return RewardModel.load(function, tokenizer, **model_init_kwargs)
    if is_model(function):
        return RewardModel.of(function, tokenizer)
    if not callable(function):
        raise ValueError(
            f"Reward {position} is {shortened(function)} ({type(function).__name__}): a reward is a function, a "
            "sequence-classification model, or the folder or hub id of one."
        )
    return function
