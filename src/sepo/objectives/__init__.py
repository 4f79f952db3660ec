"""Objectives: which views of a rollout are read, and what loss the readings make. None knows another."""

from sepo.objectives.advantages import Advantage
from sepo.objectives.base import Loss, Objective, Total
from sepo.objectives.penalties import EntropyBonus, PathKL
from sepo.objectives.readings import AllSites, FreshMasks, NextSite
from sepo.objectives.sepo import SEPO
from sepo.objectives.weights import PPOClip, ScoreClip, Unclipped

__all__ = [
    "SEPO",
    "Advantage",
    "AllSites",
    "EntropyBonus",
    "FreshMasks",
    "Loss",
    "NextSite",
    "Objective",
    "PPOClip",
    "PathKL",
    "ScoreClip",
    "Total",
    "Unclipped",
]
