"""Samplers: from a canvas to a rollout. One file each; none knows another."""

from sepo.samplers.ancestral import Ancestral
from sepo.samplers.base import (
    KernelSampler,
    Move,
    OrderedSampler,
    Sampler,
    has_density,
    require_density,
    roll,
    transitions_log_prob,
)
from sepo.samplers.blocks import Blocks
from sepo.samplers.confidence import Confidence
from sepo.samplers.dplm import DPLM
from sepo.samplers.first_hitting import FirstHitting
from sepo.samplers.gibbs import Gibbs
from sepo.samplers.left_to_right import LeftToRight
from sepo.samplers.naming import COMPOSED, SAMPLERS, sampler_named
from sepo.samplers.predictor_corrector import PredictorCorrector
from sepo.samplers.remdm import ReMDM
from sepo.samplers.tau_leaping import TauLeaping

__all__ = [
    "COMPOSED",
    "DPLM",
    "SAMPLERS",
    "Ancestral",
    "Blocks",
    "Confidence",
    "FirstHitting",
    "Gibbs",
    "KernelSampler",
    "LeftToRight",
    "Move",
    "OrderedSampler",
    "PredictorCorrector",
    "ReMDM",
    "Sampler",
    "TauLeaping",
    "has_density",
    "require_density",
    "roll",
    "sampler_named",
    "transitions_log_prob",
]
