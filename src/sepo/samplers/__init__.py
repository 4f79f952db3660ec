"""Samplers: from a canvas to a rollout. One file each; none knows another."""

from sepo.samplers.ancestral import Ancestral
from sepo.samplers.base import KernelSampler, Move, Sampler, roll, transitions_log_prob
from sepo.samplers.first_hitting import FirstHitting
from sepo.samplers.gibbs import Gibbs
from sepo.samplers.left_to_right import LeftToRight
from sepo.samplers.naming import SAMPLERS, sampler_named
from sepo.samplers.predictor_corrector import PredictorCorrector
from sepo.samplers.remdm import ReMDM
from sepo.samplers.tau_leaping import TauLeaping

__all__ = [
    "SAMPLERS",
    "Ancestral",
    "FirstHitting",
    "Gibbs",
    "KernelSampler",
    "LeftToRight",
    "Move",
    "PredictorCorrector",
    "ReMDM",
    "Sampler",
    "TauLeaping",
    "roll",
    "sampler_named",
    "transitions_log_prob",
]
