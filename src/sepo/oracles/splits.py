"""Who may see what: an oracle for the reward, one that judges, and sequences that neither has seen, by whole groups.

Neighbours of a training sequence tell an oracle its value; chromosomes, clusters or families kept apart do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sepo.typing import Int


@dataclass(frozen=True, eq=False)
class Split:
    """Places in the table. reward: the reward's oracle is fitted to these; judge: the judge's; unseen: neither's."""

    reward: Int[Tensor, " rewarded"]
    judge: Int[Tensor, " judged"]
    unseen: Int[Tensor, " unseen"]


def split_by_group(
    groups: Sequence[str],
    reward: Sequence[str] | None = None,
    judge: Sequence[str] | None = None,
    unseen: Sequence[str] | None = None,
    shares: tuple[float, float, float] = (0.4, 0.4, 0.2),
    seed: int = 0,
) -> Split:
    """By the groups that are named, the others left out; or, if none is named, each group to whoever lacks most.

    Rows without a group are in no part if others have one. If none has, rows are drawn one by one, which says nothing
    of related sequences.

    Raises:
        ValueError: some parts are named and others not, a named group does not exist or stands in two parts, or a part
            has no rows.
    """
    named = [reward, judge, unseen]
    if any(part is not None for part in named):
        if any(part is None for part in named):
            raise ValueError("Name the groups of all three parts, reward, judge and unseen, or of none.")
        parts = [list(part or ()) for part in named]
        _check_named(parts, groups)
    elif any(groups):
        parts = _balanced(groups, shares)
    else:
        order = torch.randperm(len(groups), generator=Generator().manual_seed(seed))
        ends = [round(len(groups) * share) for share in (shares[0], shares[0] + shares[1])]
        return _checked(Split(order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :]))
    found = [set(part) for part in parts]
    rows = [torch.tensor([row for row, each in enumerate(groups) if each in part], dtype=torch.long) for part in found]
    return _checked(Split(*rows))


def _balanced(groups: Sequence[str], shares: Sequence[float]) -> list[list[str]]:
    """The largest group first, to the part that is furthest from its share; the last ones to those that have none."""
    sizes = Counter(each for each in groups if each)
    parts: list[list[str]] = [[], [], []]
    held = [0, 0, 0]
    for place, (group, size) in enumerate(sorted(sizes.items(), key=lambda each: (-each[1], each[0]))):
        empty = [part for part in range(3) if not parts[part]]
        open_to = empty if empty and len(sizes) - place <= len(empty) else range(3)
        lacking = max(open_to, key=lambda part: shares[part] * sizes.total() - held[part])
        parts[lacking].append(group)
        held[lacking] += size
    return parts


def _check_named(parts: list[list[str]], groups: Sequence[str]) -> None:
    known = set(groups) - {""}
    times = Counter(group for part in parts for group in part)
    for group in times:
        if group not in known:
            raise ValueError(
                f"There is no group {group!r} in the table; its groups are {', '.join(sorted(known)[:20])}."
            )
        if times[group] > 1:
            raise ValueError(f"The group {group!r} is in two parts: the judge would have seen what the reward learned.")


def _checked(split: Split) -> Split:
    for name in ("reward", "judge", "unseen"):
        if len(getattr(split, name)) < 2:
            raise ValueError(
                f"The part {name!r} has {len(getattr(split, name))} sequences, and at least 2 of groups of its own are "
                "needed: share out three groups or more, or name those of each part (--reward_groups, --judge_groups, "
                "--unseen_groups)."
            )
    return split
