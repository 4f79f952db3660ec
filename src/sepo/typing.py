"""The names of the arrays that travel through the house.

Axes: `batch` sequences, `view` readings of one sequence, `length` sites, `vocab` token ids.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "batch length"]
Sites = Bool[Tensor, "batch length"]
Time = Float[Tensor, " batch"]
LogProbs = Float[Tensor, "batch length vocab"]
PerSequence = Float[Tensor, " batch"]

__all__ = ["Bool", "Float", "Int", "LogProbs", "PerSequence", "Sites", "Tensor", "Time", "Tokens"]
