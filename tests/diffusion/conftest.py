"""Property tests draw the same examples in every run, and no machine is too slow for them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("sepo", deadline=None, derandomize=True, max_examples=40, database=None)
settings.load_profile("sepo")
