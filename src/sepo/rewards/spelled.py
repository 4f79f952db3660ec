"""A reward that reads letters, for models without tokenizer: it is handed completions as their task writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sepo.rewards.calls import Reward
from sepo.rewards.named import NamedReward, reward_name
from sepo.rewards.request import accepted


@dataclass(frozen=True, eq=False)
class Spelled(NamedReward):
    """`reward`, with `completions` as texts; everything else, such as `completion_ids`, as it comes.

    Args:
        reward: a function or a `RewardModel`.
        spell: from integer arrays [length] to a text for each, such as `spelled` of a task. Where it gives None the
            arrays are handed on.
    """

    reward: Reward
    spell: Callable[[Sequence[Any]], Sequence[str] | None]

    @property
    def name(self) -> str:
        return reward_name(self.reward)

    def __call__(self, completions: Sequence[Any], **keywords: Any) -> Any:
        texts = self.spell(completions)
        read = {"completions": completions if texts is None else list(texts)}
        return self.reward(**accepted(self.reward, keywords | read, self.name))
