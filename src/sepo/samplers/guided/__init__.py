"""Guidance and search at inference: samplers around samplers, led by rewards that no policy was trained on, or by a
second model.

Their draws do not have the policy's density: they serve evaluation, and rollouts of algorithms that read none.
"""

from sepo.samplers.guided.best_of_n import BestOfN
from sepo.samplers.guided.classifier import ClassifierGuidance
from sepo.samplers.guided.classifier_free import ClassifierFree, ClassifierFreeDenoiser, classifier_free
from sepo.samplers.guided.naming import (
    ANY_INNER,
    GUIDANCE,
    LEARNED,
    SOFT,
    UNREWARDED,
    VALUED,
    guidance_options,
    guided,
    is_guided,
    needs_kernel,
    population_size,
    unguided,
)
from sepo.samplers.guided.population import Population
from sepo.samplers.guided.scoring import Counted, SoftReward, TokenReward
from sepo.samplers.guided.smc import SMC, Proposal
from sepo.samplers.guided.svdd import SVDD
from sepo.samplers.guided.tds import TDS
from sepo.samplers.guided.values import ArgmaxFill, Learned, SampledFill, Standing, Value

__all__ = [
    "ANY_INNER",
    "GUIDANCE",
    "LEARNED",
    "SMC",
    "SOFT",
    "SVDD",
    "TDS",
    "UNREWARDED",
    "VALUED",
    "ArgmaxFill",
    "BestOfN",
    "ClassifierFree",
    "ClassifierFreeDenoiser",
    "ClassifierGuidance",
    "Counted",
    "Learned",
    "Population",
    "Proposal",
    "SampledFill",
    "SoftReward",
    "Standing",
    "TokenReward",
    "Value",
    "classifier_free",
    "guidance_options",
    "guided",
    "is_guided",
    "needs_kernel",
    "population_size",
    "unguided",
]
