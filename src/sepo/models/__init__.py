"""Families of networks: how each is built, run, saved and loaded."""

from __future__ import annotations

from sepo.models.families import FAMILIES, as_denoiser, family_of
from sepo.models.family import Family, innermost
from sepo.models.hub import denoiser_for, load, save_pretrained, tokenizer_for, write_metadata

__all__ = [
    "FAMILIES",
    "Family",
    "as_denoiser",
    "denoiser_for",
    "family_of",
    "innermost",
    "load",
    "save_pretrained",
    "tokenizer_for",
    "write_metadata",
]
