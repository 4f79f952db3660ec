"""Ready rewards for arrays of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from sepo.rewards import ArrayReward, ClassifierProbability, RewardError, Rewards

TOKENS = np.random.default_rng(0).integers(0, 4, size=(60, 5))
COMPLETIONS = list(TOKENS)


def test_a_function_of_the_whole_batch_is_a_reward_under_its_own_name():
    def motif(tokens):
        return (tokens == 2).mean(1)

    scores = Rewards.of(ArrayReward(motif))([None] * 60, COMPLETIONS)
    assert scores.names == ("motif",)
    assert scores.total.tolist() == (TOKENS == 2).mean(1).tolist()


def test_a_regressor_s_predict_is_a_reward():
    model = Ridge().fit(TOKENS, TOKENS[:, 0] * 2.0)
    scores = Rewards.of(ArrayReward(model.predict))([None] * 60, COMPLETIONS)
    assert scores.names == ("predict",) and scores.total.numpy() == pytest.approx(model.predict(TOKENS))


def test_the_probability_is_that_of_the_label_whatever_its_position():
    labels = np.array(["no", "yes", "maybe"])[TOKENS[:, 0] % 3]
    model = LogisticRegression().fit(TOKENS, labels)
    expected = model.predict_proba(TOKENS)[:, list(model.classes_).index("yes")]
    assert ClassifierProbability(model, "yes")(COMPLETIONS) == pytest.approx(expected)


def test_features_are_made_of_the_tokens():
    def one_hot(tokens):
        return np.eye(4)[tokens].reshape(len(tokens), -1)

    model = LogisticRegression().fit(one_hot(TOKENS), TOKENS[:, 0])
    expected = model.predict_proba(one_hot(TOKENS))[:, 3]
    assert ClassifierProbability(model, 3, one_hot)(COMPLETIONS) == pytest.approx(expected)


def test_an_unknown_label_names_those_there_are():
    model = LogisticRegression().fit(TOKENS, TOKENS[:, 0])
    with pytest.raises(ValueError, match="label=7: the classifier knows 0, 1, 2, 3"):
        ClassifierProbability(model, 7)


@pytest.mark.parametrize("model", [LogisticRegression(), Ridge().fit(TOKENS, TOKENS[:, 0]), "forest"])
def test_what_is_no_fitted_classifier_is_refused_when_it_is_given(model):
    with pytest.raises(ValueError, match="not a fitted classifier"):
        ClassifierProbability(model, 1)


@pytest.mark.parametrize(
    "completions", [[np.zeros(3, int), np.zeros(4, int)], ["text"], [np.zeros(3)], [np.zeros((2, 2), int)]]
)
def test_what_are_no_arrays_of_one_length_is_named(completions):
    with pytest.raises(RewardError, match=r"raised ValueError: Completion \d is .*integer arrays of one length"):
        Rewards.of(ArrayReward(lambda tokens: tokens.sum(1)))([None] * len(completions), completions)
