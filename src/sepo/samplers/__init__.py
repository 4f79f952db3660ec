"""Samplers: from a canvas to a rollout. One file each; none knows another."""

from sepo.samplers.ancestral import Ancestral
from sepo.samplers.base import KernelSampler, Move, Sampler, roll, transitions_log_prob
from sepo.samplers.first_hitting import FirstHitting
from sepo.samplers.left_to_right import LeftToRight
from sepo.samplers.tau_leaping import TauLeaping

SAMPLERS: dict[str, type] = {
    "first_hitting": FirstHitting,
    "left_to_right": LeftToRight,
    "ancestral": Ancestral,
    "tau_leaping": TauLeaping,
}

__all__ = [
    "SAMPLERS",
    "Ancestral",
    "FirstHitting",
    "KernelSampler",
    "LeftToRight",
    "Move",
    "Sampler",
    "TauLeaping",
    "roll",
    "transitions_log_prob",
]
