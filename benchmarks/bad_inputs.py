"""Everything that can be wrong with an input, provoked at toy size, and what happens then: tables.

python benchmarks/bad_inputs.py                                              prints them, in about half a minute
python benchmarks/bad_inputs.py --write docs/guide/troubleshooting.md        puts them between the marks of a page
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from bad_input_cases import CASES, HEADINGS
from bad_input_runs import Case, told
from transformers.utils import logging

BEGIN, END = "<!-- bad inputs: begin -->", "<!-- bad inputs: end -->"


def outcome(case: Case) -> str:
    folder = Path(tempfile.mkdtemp(prefix="bad-inputs-"))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = told(lambda: case.provoke(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found.replace(f"{folder}/", "").replace(str(folder), "runs/mine").replace("|", "\\|")


def tables(cases: Sequence[Case] = CASES) -> str:
    lines: list[str] = []
    for case in cases:
        if case.what in HEADINGS:
            lines += ["", f"### {HEADINGS[case.what]}", "", "| input | what happens |", "|---|---|"]
        lines.append(f"| {case.what} | {outcome(case)} |")
    return "\n".join(lines).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a page with marks between which the tables belong")
    page = parser.parse_args().write
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    started = time.monotonic()
    made = tables()
    print(made)
    print(f"\n{len(CASES)} cases in {time.monotonic() - started:.0f} s")
    if page is not None:
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        page.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
