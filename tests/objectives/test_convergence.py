"""Training ends at p_ref exp(R / beta) / Z with the KL in the return, and beside it with the KL as a loss term only."""

from __future__ import annotations

import pytest
from benchmarks.exact_convergence import CASES, Settings, fine_tune, pretrained


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table", "perceptron"])
def test_sepo_converges_to_the_optimum_with_the_log_ratio_in_the_return(name: str) -> None:
    case, settings = CASES[name], Settings(steps=300, batch=256, pretraining_steps=600)
    reference = pretrained(case, settings)
    exact, partial = (list(fine_tune(reference, case, settings, in_return)) for in_return in (True, False))
    assert exact[0].total_variation > 0.3
    assert exact[-1].total_variation < 0.05
    assert partial[-1].total_variation > 0.05
