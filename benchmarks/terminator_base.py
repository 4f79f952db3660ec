"""What the terminator benchmark rests on, made by the stages of `sepo design` itself: the oracles and the generator.

    python benchmarks/terminator_base.py --data FOLDER     # with plant_terminators_170nt.csv.gz

170-letter plant terminators with their activity in tobacco leaves and maize protoplasts (Gorjifard et al. 2024). The
reward's oracle knows chromosomes At1, At2 and Zm1-4, the judge's At3, At5 and Zm5-8; neither saw At4, Zm9 and Zm10.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sepo.cli.design_options import Design
from sepo.cli.design_training import pretrained, task_of
from sepo.cli.oracles import Quality, fit_oracles

TABLE = "plant_terminators_170nt.csv.gz"
FOLDER = Path("runs/terminators")
REWARD = ["At1", "At2", "Zmchr01", "Zmchr02", "Zmchr03", "Zmchr04"]
JUDGE = ["At3", "At5", "Zmchr05", "Zmchr06", "Zmchr07", "Zmchr08"]
UNSEEN = ["At4", "Zmchr09", "Zmchr10"]
PRETRAIN = {"max_steps": 2400, "logging_steps": 100, "save_steps": 200, "eval_strategy": "steps", "eval_steps": 800}


def design(data: Path, **changed: object) -> Design:
    """64 channels, two convolutions of each dilation: half of the published depth, for two CPU cores."""
    options = {
        "data": str(data / TABLE),
        "activity": "tobacco_log2",
        "second": "maize_log2",
        "group": "chrom",
        "reward_groups": REWARD,
        "judge_groups": JUDGE,
        "unseen_groups": UNSEEN,
        "output": str(FOLDER / "base"),
        "stacks": 2,
        "pretrain": PRETRAIN,
    }
    return Design(**(options | changed))  # type: ignore[arg-type]


def oracles(what: Design) -> dict[str, Quality]:
    return fit_oracles(what, task_of(what).measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {TABLE}")
    parser.add_argument("--only", choices=("oracles", "generator"), help="one of the stages")
    options = parser.parse_args()
    what = design(options.data)
    if options.only != "generator":
        oracles(what)
    if options.only != "oracles":
        pretrained(what)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
