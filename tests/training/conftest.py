"""Every run collects garbage when it begins, and looks at all that was ever imported: not here."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="package", autouse=True)
def _imports_are_no_garbage():
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
