"""Training on rollouts with a cache: only when asked for, and with the policy's own log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sepo import SEPOConfig, SEPOTrainer
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import read
from sepo.samplers import Confidence
from sepo.training import Frozen
from tests.models.attending import policy_of
from tests.models.toys import LENGTH
from tests.training.toys import clues, config, lines, trainer

CACHED: dict[str, Any] = {
    "sampler": "confidence",
    "sampler_kwargs": {"cache": "block", "block_length": 5},
    "approximate_rollouts": True,
}


def run(folder: Path, **changes: Any) -> SEPOTrainer:
    return trainer(folder, policy_of("llama", 3), rows=clues(length=LENGTH), **{**CACHED, **changes})


def difference(made: SEPOTrainer, rollout: Any) -> float:
    """Of the rollout's log-probabilities to those without a cache."""
    assert isinstance(rollout, MaskedPath)
    with torch.no_grad():
        return float((rollout.log_prob - path_log_prob(made.policy, rollout)).abs().max())


def test_only_a_cache_is_let_through_and_only_when_asked_for(tmp_path: Path) -> None:
    made = config(tmp_path, **CACHED)
    assert made.approximate_rollouts and not SEPOConfig.approximate_rollouts
    assert run(tmp_path).collector.sampler == Confidence(cache="block", block_length=5)
    for options in ({"approximate_rollouts": False}, {"sampler_kwargs": {"cache": "block", "rule": "low_confidence"}}):
        with pytest.raises(ValueError, match=r"not the density of its path.*approximate_rollouts=True"):
            config(tmp_path, **{**CACHED, **options})


def test_the_path_kl_is_of_the_policy_and_not_of_what_was_kept(tmp_path: Path) -> None:
    """To a reference that is the policy itself it is 0, though the rollout says otherwise."""
    made = run(tmp_path, beta=0.3)
    found = made.collector.collect(made.stream.rows([0, 1]), [0, 1])
    assert difference(made, found.rollout) > 1e-3
    assert abs(found.metrics["kl"]) < 1e-5
    torch.testing.assert_close(found.returns, found.scores.total.to(found.returns), atol=1e-5, rtol=0)


def test_the_old_policy_is_read_without_the_cache(tmp_path: Path) -> None:
    made = run(tmp_path)
    found = made.collector.collect(made.stream.rows([0, 1]), [0, 1])
    assert difference(made, found.rollout) > 1e-3
    (stale,) = made.collector.experiences(found, 0, len(found.rollout), stale=True)
    (fresh,) = made.collector.experiences(found, 0, len(found.rollout), stale=False)
    assert fresh.old is None and stale.old is not None
    with torch.no_grad():
        torch.testing.assert_close(stale.old.log_prob, read(made.policy, stale.views).log_prob, atol=1e-5, rtol=1e-5)


def test_it_trains_and_the_first_ratio_is_one(tmp_path: Path) -> None:
    made = run(tmp_path, max_steps=2, num_iterations=2, reference=Frozen.of(policy_of("llama", 3).network), beta=0.1)
    made.train()
    first, second = (line["ratio"] for line in lines(tmp_path) if "ratio" in line)
    assert first == pytest.approx(1, abs=1e-4) and abs(second - 1) > 1e-4
