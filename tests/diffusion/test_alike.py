"""What two denoisers must share before their laws are combined or compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sepo.diffusion.alike import require_alike
from sepo.diffusion.process import Absorbing, Uniform
from sepo.diffusion.schedule import Cosine
from sepo.evaluation.worlds import ideal_uniform, markov_chain, random_table
from tests.worlds import SMALL

POLICY = random_table(SMALL, seed=2)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"process": Absorbing(5, 4)}, "the other knows 5 ids and the policy 4"),
        ({"process": Absorbing(4, 0)}, "The mask is id 0 of the other and id 3 of the policy"),
        ({"process": Absorbing(4, 3, schedule=Cosine()), "time_free": False}, "the other has the schedule Cosine"),
        ({"frame": ((0,), ())}, r"the other has the frame \(\(0,\), \(\)\) and the policy \(\(\), \(\)\)"),
        ({"length": 7}, "the other draws sequences of 7 tokens and the policy of 3"),
    ],
)
def test_what_differs_is_named(changed, problem) -> None:
    with pytest.raises(ValueError, match=problem + r".*: name a model of the same tokens and noise"):
        require_alike(replace(POLICY, length=3), replace(POLICY, **changed), "the other")


def test_another_process_is_named() -> None:
    absorbing = replace(POLICY, process=Absorbing(3, 2))
    with pytest.raises(ValueError, match="the other inverts the process Uniform and the policy Absorbing"):
        require_alike(absorbing, ideal_uniform(SMALL, markov_chain(SMALL, seed=0)), "the other")


def test_under_the_uniform_process_the_schedule_says_what_a_token_is_worth() -> None:
    uniform = ideal_uniform(SMALL, markov_chain(SMALL, seed=0))
    other = replace(uniform, process=Uniform(3, schedule=Cosine()))
    with pytest.raises(ValueError, match="the other has the schedule Cosine"):
        require_alike(uniform, other, "the other")


def test_networks_that_do_not_read_the_time_may_have_other_schedules() -> None:
    require_alike(POLICY, replace(POLICY, process=Absorbing(4, 3, schedule=Cosine())), "the other")
