"""Handwritten digits, 8 x 8 pixels of a few grey levels, unconditional; the reward is a random forest's opinion.

Data: scikit-learn's copy of the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
1998, UCI Machine Learning Repository, doi 10.24432/C50P49, CC BY 4.0): 1,797 images of 17 levels. The diffusion model
learns nine tenths of them, the rest is for its bound. Independently of that, the reward is fitted on one half of all
images and the judges, other kinds of classifiers, on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.sequences import distinct_fraction, diversity_ratio, nearest_distance
from sepo.models.families import as_denoiser
from sepo.models.networks.grid import GridConfig, GridNetwork
from sepo.runs.pixels import Pixels
from sepo.tasks.base import Row, Task, stacked

SIDE = 8
LENGTH = SIDE * SIDE
Images = Integer[np.ndarray, "_ length"]


@dataclass(frozen=True, eq=False)
class Labelled:
    images: Images
    labels: Integer[np.ndarray, " _"]

    def of(self, digit: int) -> Images:
        return self.images[self.labels == digit]


@dataclass(frozen=True)
class Digits(Task):
    """digit: the one to ask for; levels: grey levels; trees: of the forest; seed: of the splits and the classifiers."""

    digit: int = 3
    levels: int = 8
    trees: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.digit <= 9:
            raise ValueError(f"digit={self.digit}: choose 0 to 9.")
        if not 2 <= self.levels <= 17:
            raise ValueError(f"levels={self.levels}: the images have 17 grey levels; choose 2 to 17.")
        if self.trees < 1:
            raise ValueError(f"trees={self.trees}: a forest needs at least 1 tree.")

    @property
    def mask(self) -> int:
        """Tokens 0 .. levels-1 are grey levels, the mask comes after them."""
        return self.levels

    @cached_property
    def data(self) -> Labelled:
        return load(self.levels)

    @cached_property
    def halves(self) -> tuple[Labelled, Labelled]:
        """The half that the reward is fitted on, and the half of the judges."""
        return split(self.data, 0.5, self.seed)

    @cached_property
    def parts(self) -> tuple[Labelled, Labelled]:
        """What the diffusion model is trained on, and what is held out for its bound: nine tenths and one."""
        return split(self.data, 0.1, self.seed + 1)

    def corpus(self) -> list[Row]:
        return [{"tokens": image} for image in self.parts[0].images.tolist()]

    def heldout(self) -> list[Row]:
        return [{"tokens": image} for image in self.parts[1].images.tolist()]

    def denoiser(self) -> Denoiser:
        """A small convolutional network; a transformer of the same cost draws poorer digits."""
        config = GridConfig(vocab_size=self.levels + 1, height=SIDE, width=SIDE)
        return as_denoiser(GridNetwork(config), Absorbing(self.levels + 1, self.mask))

    @cached_property
    def forest(self) -> Any:
        """The reward's classifier."""
        ensemble = _sklearn("ensemble")
        return ensemble.RandomForestClassifier(self.trees, random_state=self.seed, n_jobs=1).fit(
            *self._fit(self.halves[0])
        )

    @cached_property
    def judges(self) -> dict[str, Any]:
        """Classifiers of other kinds than the reward's, fitted on the half that it never saw."""
        models = {
            "nearest_neighbours": _sklearn("neighbors").KNeighborsClassifier(5),
            "logistic_regression": _sklearn("linear_model").LogisticRegression(max_iter=2000),
            "support_vectors": _sklearn("svm").SVC(gamma="scale"),
        }
        return {name: model.fit(*self._fit(self.halves[1])) for name, model in models.items()}

    def reward(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float]:
        """The forest's probability of the digit."""
        probabilities = self.forest.predict_proba(self._grey(stacked(completions, LENGTH)))
        return probabilities[:, self.digit].tolist()

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        """judge_agreement: share of samples that most of the unseen judges call the digit, and that of each judge.

        As in `sepo.evaluation.sequences`: diversity_ratio (to real images of the digit), distinct_fraction,
        nearest_distance (mean, in pixels, to the pretraining images) and novelty (share that is not one of them).
        """
        samples = stacked(completions, LENGTH)
        verdicts = self.verdicts(samples)
        majority = 2 * np.sum(list(verdicts.values()), axis=0) > len(verdicts)
        tokens, seen = torch.from_numpy(samples), torch.from_numpy(self.parts[0].images)
        nearest = nearest_distance(tokens, seen)
        return {
            "judge_agreement": float(majority.mean()),
            **{f"judge_agreement/{name}": float(verdict.mean()) for name, verdict in verdicts.items()},
            "diversity_ratio": diversity_ratio(tokens, torch.from_numpy(self.data.of(self.digit))),
            "distinct_fraction": distinct_fraction(tokens),
            "nearest_distance": float(nearest.double().mean()),
            "novelty": float((nearest > 0).double().mean()),
        }

    def verdicts(self, samples: Images) -> dict[str, Bool[np.ndarray, " image"]]:
        """Whether each judge calls each sample the digit."""
        return {name: judge.predict(self._grey(samples)) == self.digit for name, judge in self.judges.items()}

    def draw(self, prompts: Sequence[Any], tokens: Integer[np.ndarray, "sample *frame length"]) -> Pixels:
        return Pixels(tokens.reshape(*tokens.shape[:-1], SIDE, SIDE), self.levels, self.mask)

    def _fit(self, part: Labelled) -> tuple[Float[np.ndarray, "image length"], Integer[np.ndarray, " image"]]:
        return self._grey(part.images), part.labels

    def _grey(self, images: Images) -> Float[np.ndarray, "image length"]:
        """Grey levels as numbers in [0, 1]."""
        return images / (self.levels - 1)


def load(levels: int) -> Labelled:
    """All 1,797 images as tokens 0 .. levels-1, and the digits they show."""
    found = _sklearn("datasets").load_digits()
    return Labelled((found.data.astype(np.int64) * levels) // 17, found.target.astype(np.int64))


def split(data: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Two parts, the second with about `share` of every digit."""
    rng = np.random.default_rng(seed)
    second = np.zeros(len(data.labels), dtype=bool)
    for digit in np.unique(data.labels):
        places = rng.permutation(np.flatnonzero(data.labels == digit))
        second[places[: round(share * len(places))]] = True
    return Labelled(data.images[~second], data.labels[~second]), Labelled(data.images[second], data.labels[second])


def _sklearn(module: str) -> Any:
    """A module of scikit-learn, which only this task needs."""
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: pip install scikit-learn (extra `demo`)") from error
