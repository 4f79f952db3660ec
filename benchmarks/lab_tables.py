"""The tables of docs/laboratory.md, from the records of the laboratory.

python benchmarks/lab_tables.py                              prints them
python benchmarks/lab_tables.py --into docs/laboratory.md    replaces what stands between <!-- NAME --> and <!-- / -->
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_tables import Tables, add_options, show, table

Record = dict[str, Any]
SHIPPED, MEASURED = ("chain", "ising", "parity"), ("tfbind8", "gb1")
BETA = 0.1
"""Reward per nat in every world."""
OWN_SAMPLER = {"just_grpo": "left_to_right"}
"""Methods that are judged by another sampler than first-hitting, which has another optimum."""


def heads(what: str, worlds: Sequence[str]) -> list[str]:
    return [f"{what}: {worlds[0]}", *worlds[1:]]


def bias(record: Record | None) -> str:
    if record is None:
        return ""
    found, error = record["relative_bias"], record["bias_error"]
    return "exact" if error == 0 and found < 0.005 else f"{found:.2f} ± {error:.2f}"


def name_of(record: Record) -> str:
    return record["method"] + ("*" if record["rescaled"] else "")


def by_world(records: Sequence[Record], worlds: Sequence[str], **fields: Any) -> dict[str, dict[str, Record]]:
    """method -> world -> record, in the order in which methods were measured."""
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        if record["world"] in worlds and all(record[name] == value for name, value in fields.items()):
            found.setdefault(record["method"], {})[record["world"]] = record
    return found


def gradients(records: Sequence[Record], worlds: Sequence[str], moved: Sequence[str], **fields: Any) -> str:
    """Evaluations, bias on policy, bias after 16 updates in the worlds `moved`, variance x evaluations."""
    near = by_world(records, worlds, network="pretrained", updates=0, **fields)
    far = by_world(records, worlds, network="pretrained", updates=16, **fields)
    head = ["method", f"evaluations ({worlds[-1]})", *heads("bias", worlds), *heads("after 16 updates", moved)]
    rows = []
    for method, found in near.items():
        last = found[worlds[-1]] if worlds[-1] in found else next(iter(found.values()))
        costs = [found.get(world) for world in worlds]
        rows.append(
            [
                name_of(last),
                f"{last['evaluations']:.0f}",
                *(bias(found.get(world)) for world in worlds),
                *(f"{far[method][world]['relative_bias']:.2f}" for world in moved),
                *("" if each is None else f"{each['variance'] * each['evaluations']:.0f}" for each in costs),
            ]
        )
    return table([*head, *heads("variance x evaluations", worlds)], rows)


def endings(records: Sequence[Record], worlds: Sequence[str], process: str = "absorbing") -> str:
    """Where training ends, nearest to the optimum first: by the mean of the ranks."""
    found = by_world(records, worlds, process=process)
    ranks: dict[str, list[int]] = {method: [] for method in found}
    for world in worlds:
        known = [method for method in found if world in found[method]]
        for rank, method in enumerate(sorted(known, key=lambda each: found[each][world]["total_variation"])):
            ranks[method].append(rank)
    rows = []
    for method in sorted(found, key=lambda each: sum(ranks[each]) / len(ranks[each])):
        cells = [found[method].get(world) for world in worlds]
        rows.append(
            [
                method,
                *("" if each is None else f"{each['total_variation']:.3f} ({each['spread']:.2f})" for each in cells),
                *("" if each is None else f"{each['objective']:.4f}" for each in cells),
                *("" if each is None else f"{each['learning_rate']:g}" for each in cells),
            ]
        )
    head = ["method", *heads("total variation", worlds), *heads("E[R] - 0.1 KL", worlds), *heads("rate", worlds)]
    return table(head, rows)


def arrivals(records: Sequence[Record], landmarks: Sequence[Record], world: str) -> str:
    """Where training ends in a world of masks, and where it might: the least KL to the optimum first.

    KL(p || optimum) = (what the optimum has of E[R] - beta KL, less what p has) / beta
    """
    marks = {(each["sampler"], each["landmark"]): each for each in landmarks if each["world"] == world}
    found = [each for each in records if each["world"] == world and each["process"] == "absorbing"]
    found += [
        {"method": f"*{landmark}*" if sampler == "first_hitting" else f"*{landmark}, {sampler.replace('_', ' ')}*"}
        | each
        for (sampler, landmark), each in marks.items()
    ]

    def away(each: Record) -> float:
        sampler = each.get("sampler", OWN_SAMPLER.get(each["method"], "first_hitting"))
        return (marks[sampler, "optimum"]["objective"] - each["objective"]) / BETA

    rows = []
    for each in sorted(found, key=away):
        spread = f" ({each['spread']:.2f})" if "spread" in each else ""
        rate = f"{each['learning_rate']:g}" if "learning_rate" in each else ""
        numbers = [f"{each[name]:.3f}" for name in ("expected_reward", "kl")]
        rows.append([each["method"], *numbers, f"{away(each):.3f}", f"{each['total_variation']:.3f}{spread}", rate])
    head = ["method", "expected reward", "KL from pretrained", "KL to the optimum", "total variation to it", "rate"]
    return table(head, rows)


def tables(folder: Path) -> Tables:
    quality, ends, landmarks = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("gradient_quality", "convergence", "landmarks")
    )
    return {
        "gradient": lambda: gradients(quality, SHIPPED, ("ising",), process="absorbing"),
        "gradient measured": lambda: gradients(quality, MEASURED, ("tfbind8", "gb1"), process="absorbing"),
        "gradient uniform": lambda: gradients(quality, SHIPPED, ("ising",), process="uniform"),
        "convergence": lambda: endings(ends, SHIPPED),
        "convergence tfbind8": lambda: arrivals(ends, landmarks, "tfbind8"),
        "convergence gb1": lambda: arrivals(ends, landmarks, "gb1"),
        "convergence uniform": lambda: endings(ends, SHIPPED, "uniform"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/lab"))
    add_options(parser)
    options = parser.parse_args()
    show(tables(options.folder), options)


if __name__ == "__main__":
    main()
