"""Objectives: which views of a rollout are read, and what loss the readings make. None knows another."""

from sepo.objectives.actor_critic import ActorCritic
from sepo.objectives.advantages import Advantage
from sepo.objectives.base import Loss, Objective, Total
from sepo.objectives.credit import Credit
from sepo.objectives.penalties import DrawnKL, EntropyBonus, PathKL
from sepo.objectives.readings import AllSites, FreshMasks, NextSite, Transitions, Where
from sepo.objectives.sepo import SEPO
from sepo.objectives.surrogate import Surrogate
from sepo.objectives.weights import PPOClip, ScoreClip, Unclipped

__all__ = [
    "SEPO",
    "ActorCritic",
    "Advantage",
    "AllSites",
    "Credit",
    "DrawnKL",
    "EntropyBonus",
    "FreshMasks",
    "Loss",
    "NextSite",
    "Objective",
    "PPOClip",
    "PathKL",
    "ScoreClip",
    "Surrogate",
    "Total",
    "Transitions",
    "Unclipped",
    "Where",
]
