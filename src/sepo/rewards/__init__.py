"""Rewards: functions with TRL's signature, called, checked and summed. Usable without the rest of the library."""

from sepo.rewards.arrays import ArrayReward, ClassifierProbability
from sepo.rewards.cached import Cached
from sepo.rewards.calls import Reward, RewardCalls
from sepo.rewards.errors import RewardError
from sepo.rewards.messages import is_conversational, text_of
from sepo.rewards.named import NamedReward, reward_name
from sepo.rewards.program import ProgramReward
from sepo.rewards.reward_model import RewardModel
from sepo.rewards.scores import Scores, reward_metrics, weighted_total
from sepo.rewards.spelled import Spelled
from sepo.rewards.table import TableReward
from sepo.rewards.texts import ExactMatch, LengthPenalty, LetterShare, RegexReward, RepetitionPenalty
from sepo.rewards.weighted import Rewards

__all__ = [
    "ArrayReward",
    "Cached",
    "ClassifierProbability",
    "ExactMatch",
    "LengthPenalty",
    "LetterShare",
    "NamedReward",
    "ProgramReward",
    "RegexReward",
    "RepetitionPenalty",
    "Reward",
    "RewardCalls",
    "RewardError",
    "RewardModel",
    "Rewards",
    "Scores",
    "Spelled",
    "TableReward",
    "is_conversational",
    "reward_metrics",
    "reward_name",
    "text_of",
    "weighted_total",
]
