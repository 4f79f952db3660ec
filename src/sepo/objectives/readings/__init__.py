"""Where log-probabilities are read: along the path, at fresh noise, on the finished sequence, in a sampler's steps."""

from sepo.objectives.readings.base import Where
from sepo.objectives.readings.finished import CleanScore, MaskedConditionals, RawLogits
from sepo.objectives.readings.masks import Complementary, Coupled, FreshMasks, FreshNoise, FullyMasked, LeftToRight
from sepo.objectives.readings.path import AllSites, Merged, NextSite
from sepo.objectives.readings.transitions import Transitions

READINGS: dict[str, type[Where]] = {
    "next_site": NextSite,
    "all_sites": AllSites,
    "fresh_masks": FreshMasks,
    "fresh_noise": FreshNoise,
    "left_to_right": LeftToRight,
    "masked_conditionals": MaskedConditionals,
    "merged": Merged,
}
"""Readings whose only option is a number of states."""

FIXED: dict[str, type[Where]] = {"raw_logits": RawLogits, "clean_score": CleanScore}
"""Readings of the finished sequence as it is: one evaluation, no choice."""

__all__ = [
    "FIXED",
    "READINGS",
    "AllSites",
    "CleanScore",
    "Complementary",
    "Coupled",
    "FreshMasks",
    "FreshNoise",
    "FullyMasked",
    "LeftToRight",
    "MaskedConditionals",
    "Merged",
    "NextSite",
    "RawLogits",
    "Transitions",
    "Where",
]
