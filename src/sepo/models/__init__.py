"""Families of networks: how each is built, run, saved and loaded."""

from __future__ import annotations

from sepo.models.adapters import merged
from sepo.models.conversion import convert
from sepo.models.families import FAMILIES, as_denoiser, family_of
from sepo.models.family import Family, innermost
from sepo.models.hub import denoiser_for, load, tokenizer_for
from sepo.models.published.table import LAYOUTS
from sepo.models.published.writing import save_published
from sepo.models.saving import save_pretrained, write_metadata

__all__ = [
    "FAMILIES",
    "LAYOUTS",
    "Family",
    "as_denoiser",
    "convert",
    "denoiser_for",
    "family_of",
    "innermost",
    "load",
    "merged",
    "save_pretrained",
    "save_published",
    "tokenizer_for",
    "write_metadata",
]
