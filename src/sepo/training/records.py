"""What a collection leaves in the run folder."""

from __future__ import annotations

import math
from typing import Any

from sepo.runs import Completions
from sepo.training.collector import Collected


def completions_table(collected: Collected, step: int) -> Completions:
    """One row per sequence:

    prompt, completion, a column per reward, extras, advantage. Rewards that do not apply are None.
    """
    scores = collected.scores
    rewards = {
        name: [None if math.isnan(value) else value for value in column]
        for name, column in zip(scores.names, scores.per_function.T.tolist(), strict=True)
    }
    extras: dict[str, Any] = scores.extra
    return Completions(step, collected.prompts, collected.completions, rewards, collected.advantage.tolist(), extras)
