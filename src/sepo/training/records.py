"""What a collection leaves in the run folder."""

from __future__ import annotations

from sepo.runs import Completions
from sepo.training.collector import Collected


def completions_table(collected: Collected, step: int) -> Completions:
    """One row per sequence:

    prompt, completion, a column per reward, extras, advantage. Rewards that do not apply are None.
    """
    scores = collected.scores
    advantages = collected.advantage.tolist()
    return Completions(step, collected.prompts, collected.completions, scores.by_name(), advantages, scores.extras)
