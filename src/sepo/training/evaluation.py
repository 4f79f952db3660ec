"""Evaluation: the rewards of fresh sequences on rows that training does not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sepo.training.collector import Collector, alone
from sepo.training.config import SEPOConfig
from sepo.training.guidance import Asked
from sepo.training.kl_control import KLControl
from sepo.training.layout import Layout
from sepo.training.rows import Rows, number_of

EVALUATION_SEED = 1_000_003
"""Added to the run seed, so that evaluation draws nothing that training draws."""


def require_rows(rows: Rows | None) -> None:
    """
    Raises:
        ValueError: there are no rows.
    """
    if rows is None or number_of(rows) == 0:
        raise ValueError("There is nothing to evaluate on: pass an eval_dataset with at least one row.")


def rewards_on(
    rows: Rows, collector: Collector, layout: Layout, args: SEPOConfig, trainer_state: Any
) -> list[dict[str, float]]:
    """Rewards by name and in total, one record per sequence: num_generations_eval of them on each of this process's
    share of the rows."""
    group = args.num_generations_eval or args.num_generations
    at_once = max(args.per_device_eval_batch_size // group, 1)
    seed = collector.seed + EVALUATION_SEED
    nothing: Any = {"reference": None, "control": KLControl(0.0), "critic": None, "replay": None, "guided": None}
    quiet = replace(collector, seed=seed, group=group, gather=alone, asked=Asked(), **nothing)
    mine = list(range(layout.rank, len(rows), layout.world))
    records: list[dict[str, float]] = []
    for start in range(0, len(mine), at_once):
        part = mine[start : start + at_once]
        scores = quiet.collect([rows[index] for index in part], part, trainer_state).scores
        for number, values in enumerate(scores.per_function.tolist()):
            by_name = {f"rewards/{name}/mean": value for name, value in zip(scores.names, values, strict=True)}
            records.append({"reward": float(scores.total[number]), **by_name})
    return records
