"""Samplers: from a canvas to a rollout. One file each; none knows another."""

from sepo.samplers.ancestral import Ancestral
from sepo.samplers.base import KernelSampler, Move, Sampler, roll
from sepo.samplers.first_hitting import FirstHitting
from sepo.samplers.tau_leaping import TauLeaping

SAMPLERS: dict[str, type] = {"first_hitting": FirstHitting, "ancestral": Ancestral, "tau_leaping": TauLeaping}

__all__ = ["SAMPLERS", "Ancestral", "FirstHitting", "KernelSampler", "Move", "Sampler", "TauLeaping", "roll"]
