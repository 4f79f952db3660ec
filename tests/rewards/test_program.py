"""Programs as rewards."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest

from sepo.rewards import ProgramReward, RewardError, Rewards

LENGTHS = "import sys\nfor line in sys.stdin: print(len(line.strip()) or 'none')"


def program(code, **options):
    return ProgramReward((sys.executable, "-c", code), **options)


def test_a_program_reads_a_completion_and_writes_a_number_per_line():
    assert program(LENGTHS)(["a", "bb", ""]) == [1.0, 2.0, None]


def test_arrays_are_written_as_numbers():
    total = "import sys\nfor line in sys.stdin: print(sum(map(int, line.split())))"
    assert program(total)([np.array([1, 2]), np.array([3, 4])]) == [3.0, 7.0]


def test_a_program_can_read_prompts_and_columns_as_json():
    code = (
        "import sys, json\nfor line in sys.stdin:\n  row = json.loads(line)\n  print(row['completion'] == row['right'])"
    )
    echo = "import sys\nfor line in sys.stdin: sys.stderr.write(line)\nsys.exit(3)"
    with pytest.raises(ValueError, match="ended with code 3") as caught:
        program(echo, as_json=True)(["a\nb"], prompts=[np.array([1])], completion_ids=[[1]], right=[np.float32(2)])
    assert json.loads(str(caught.value).split("said: ")[1]) == {"prompt": [1], "completion": "a\nb", "right": 2.0}
    with pytest.raises(ValueError, match="must write a number or none"):
        program(code, as_json=True)(["a"], right=["a"])


def test_a_column_that_json_does_not_know_is_named():
    with pytest.raises(ValueError, match=r"\(object\) has no form in JSON"):
        program(LENGTHS, as_json=True)(["a"], thing=[object()])


def test_a_program_is_named_after_its_file():
    assert Rewards.of(program(LENGTHS))([None], ["abc"]).names[0].startswith("python")


@pytest.mark.parametrize(
    ("code", "completions", "message"),
    [
        (
            "import sys; print('bad input', file=sys.stderr); sys.exit(2)",
            ["a"],
            "ended with code 2 and said: bad input",
        ),
        ("print(1)", ["a", "b"], "wrote 1 lines for 2 completions"),
        ("print('high')", ["a"], "wrote 'high' for completion 0"),
        (LENGTHS, ["a\nb"], "Completion 0, 'a\\nb', has several lines.*as_json=True"),
    ],
)
def test_a_program_that_fails_says_how(code, completions, message):
    with pytest.raises(RewardError, match=message.replace("\\n", r"\\n")):
        Rewards.of(program(code))([None] * len(completions), completions)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'/no/such/program' cannot be started: No such file"):
        ProgramReward(("/no/such/program",))(["a"])
    with pytest.raises(ValueError, match="name the program"):
        ProgramReward(())


def test_a_slow_program_is_ended():
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"took longer than timeout=0.2 s"):
        program("import time; time.sleep(30)", timeout=0.2)(["a"])
    assert time.monotonic() - start < 10
