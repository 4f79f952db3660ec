"""Ready rewards for tasks without tokenizer, whose completions are integer arrays: a function, a classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer

from sepo.rewards.messages import shortened
from sepo.rewards.named import NamedReward, reward_name


@dataclass(frozen=True)
class ArrayReward(NamedReward):
    """`function` of all completions at once: array [batch, length] to [batch] values, such as `regressor.predict`."""

    function: Callable[[np.ndarray], Any]

    @property
    def name(self) -> str:
        return reward_name(self.function)

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> Any:
        return self.function(stacked(completions))


@runtime_checkable
class Classifier(Protocol):
    """What scikit-learn's fitted classifiers have."""

    @property
    def classes_(self) -> Any: ...

    def predict_proba(self, X: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class ClassifierProbability:
    """The probability of `label` by a fitted classifier in scikit-learn's manner, a `Classifier`, in [0, 1].

    features: of the arrays [batch, length], what the classifier reads; by default the tokens themselves.
    """

    model: Any
    label: Any
    features: Callable[[np.ndarray], Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, Classifier):
            raise ValueError(
                f"{shortened(self.model)} is not a fitted classifier with predict_proba and classes_: fit it, or "
                "choose one that gives probabilities."
            )
        classes = np.asarray(self.model.classes_).tolist()
        if self.label not in classes:
            raise ValueError(f"label={self.label!r}: the classifier knows {', '.join(map(repr, classes))}.")

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float]:
        tokens = stacked(completions)
        column = np.asarray(self.model.classes_).tolist().index(self.label)
        return self.model.predict_proba(tokens if self.features is None else self.features(tokens))[:, column].tolist()


def stacked(completions: Sequence[Any]) -> Integer[np.ndarray, "batch length"]:
    """Completions as one array.

    Raises:
        ValueError: they are not integer arrays of one length.
    """
    arrays = [np.asarray(completion) for completion in completions]
    for index, array in enumerate(arrays):
        if array.ndim != 1 or array.dtype.kind not in "iu" or array.shape != arrays[0].shape:
            raise ValueError(
                f"Completion {index} is {array.dtype} of shape {array.shape} and the first has the shape "
                f"{arrays[0].shape}: this reward reads integer arrays of one length, as tasks without tokenizer "
                "hand them. For text, use a reward that reads text."
            )
    return np.stack(arrays)
