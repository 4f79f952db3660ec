"""Which groups a process draws, and how they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepo.training import Layout
from tests.training.toys import raised


def steps_of(layout: Layout, collection: int) -> list[list[int]]:
    """The groups of each optimizer step, where a step holds whole groups."""
    groups = layout.group_indices(collection)
    per_step = layout.micro * layout.accumulation // layout.group
    return [groups[start : start + per_step] for start in range(0, len(groups), per_step)]


@given(
    world=st.integers(1, 4),
    group=st.integers(1, 4),
    per_step=st.integers(1, 3),
    steps=st.integers(1, 3),
    collection=st.integers(0, 5),
)
def test_in_every_step_several_processes_see_the_groups_that_one_sees(world, group, per_step, steps, collection):
    alone = Layout(micro=group * per_step * world, group=group, per_collection=steps)
    each = [Layout(group * per_step, group, per_collection=steps, world=world, rank=rank) for rank in range(world)]
    together = [steps_of(layout, collection) for layout in each]
    for step, expected in enumerate(steps_of(alone, collection)):
        assert sorted(index for mine in together for index in mine[step]) == expected


@given(
    world=st.integers(1, 3),
    micro=st.integers(1, 6),
    group=st.integers(1, 6),
    accumulation=st.integers(1, 3),
    steps=st.integers(1, 3),
)
def test_every_group_is_drawn_once_and_by_one_process(world, micro, group, accumulation, steps):
    per_collection = accumulation * steps
    if micro * per_collection % group:
        return
    layouts = [Layout(micro, group, accumulation, per_collection, world=world, rank=rank) for rank in range(world)]
    drawn = [index for collection in range(3) for layout in layouts for index in layout.group_indices(collection)]
    assert sorted(drawn) == list(range(3 * layouts[0].groups))


def test_a_collection_yields_its_micro_batches_once_per_iteration():
    layout = Layout(micro=4, group=2, accumulation=2, per_collection=4, iterations=3, world=2)
    assert (layout.local, layout.groups, layout.batches) == (16, 16, 12)


def test_regrouping_batch_and_accumulation_draws_the_same_groups():
    assert (
        Layout(8, 4, 2, 2).group_indices(3)
        == Layout(16, 4, 1, 1).group_indices(3)
        == Layout(4, 4, 4, 4).group_indices(3)
    )


@pytest.mark.parametrize("name", ["micro", "group", "accumulation", "per_collection", "iterations", "world"])
def test_sizes_below_one_are_refused_by_the_name_of_their_option(name):
    sizes = {"micro": 4, "group": 2} | {name: 0}
    message = raised(ValueError, lambda: Layout(**sizes))
    assert "=0: must be at least 1" in message
    assert "micro" not in message.split("=")[0]


def test_a_step_over_two_collections_is_refused():
    message = raised(ValueError, lambda: Layout(micro=4, group=2, accumulation=2, per_collection=3))
    assert "steps_per_generation=3" in message and "gradient_accumulation_steps=2" in message


def test_a_group_over_two_processes_is_refused():
    message = raised(ValueError, lambda: Layout(micro=6, group=4))
    assert "num_generations=4" in message and "6 sequences" in message and "divisor" in message
