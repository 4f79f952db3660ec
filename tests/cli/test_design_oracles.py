"""The oracles of sepo design: what is fitted is kept, what was stopped goes on, and nothing of a former run rewards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from sepo.cli import main, oracle_members
from sepo.cli.design_options import Design
from sepo.cli.design_report import _trust
from sepo.cli.design_training import pretrained, task_of
from sepo.cli.marks import QUALITY
from sepo.cli.oracles import Quality, fit_oracles, split_of
from sepo.oracles import load_oracle
from tests.cli.designing import COLUMNS, QUICK, small

REWARD = Path("out/oracles/reward")


def fitted(what: Design) -> dict[str, Quality]:
    return fit_oracles(what, task_of(what).measured)


def weights() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path("out/oracles").rglob("*.safetensors"))}


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """Seeds of the networks that are fitted."""
    seeds: list[int] = []
    fit = oracle_members.fit

    def watched(data, how, *more):
        seeds.append(how.seed)
        return fit(data, how, *more)

    monkeypatch.setattr(oracle_members, "fit", watched)
    return seeds


def test_fewer_members_leave_none_of_the_former_ones(table, counted):
    fitted(small(table, members=3, judge_groups=["c0", "c1"], reward_groups=["c2", "c3"], unseen_groups=["c4", "c5"]))
    former = weights()
    swapped = small(table, members=2, judge_groups=["c2", "c3"], reward_groups=["c0", "c1"], unseen_groups=["c4", "c5"])
    found = fitted(swapped)
    assert len(load_oracle(REWARD).members) == 2 and len(counted) == 9 + 6
    assert not set(former.values()) & set(weights().values())
    assert len(found["reward"].settings["fits"]) == 2
    fitted(swapped)
    assert len(counted) == 15


def test_a_stopped_oracle_goes_on_and_ends_as_if_it_had_never_been(table, monkeypatch, counted, capsys):
    what = small(table, members=3, second=None)
    save = oracle_members.save_member

    def stopping(member, place, made):
        save(member, place, made)
        if len(counted) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(oracle_members, "save_member", stopping)
        with pytest.raises(KeyboardInterrupt):
            fitted(what)
    with pytest.raises(ValueError, match="holds no oracle"):
        load_oracle(REWARD)
    found = fitted(what)
    assert counted[:3] == [0, 1, 2] and len(counted) == 6
    assert "; 2 of 3 networks are kept" in " ".join(capsys.readouterr().err.split())
    ended = weights()
    assert found["reward"].seconds is not None and not list(Path("out").rglob("fitting"))
    fitted(replace(what, output="whole"))
    assert [path.read_bytes() for path in sorted(Path("whole").rglob("*.safetensors"))] == list(ended.values())


def test_members_of_other_settings_or_of_other_data_are_not_kept(table, counted):
    what = small(table, members=2, second=None)
    fitted(what)
    kept = (REWARD / "member_0/model.safetensors").read_bytes()
    fitted(replace(what, members=3))
    assert counted[4:] == [2, 1002] and (REWARD / "member_0/model.safetensors").read_bytes() == kept
    fitted(replace(what, members=3, epochs=2))
    assert len(counted) == 6 + 6
    fitted(replace(what, members=3, epochs=2, group=None))
    assert len(counted) == 6 + 6 + 6


def test_other_unseen_groups_are_tested_on_and_nothing_is_fitted_again(table, counted, capsys):
    named = {"reward_groups": ["c0", "c1"], "judge_groups": ["c2", "c3"]}
    first = fitted(small(table, second=None, unseen_groups=["c4"], **named))
    before, other = weights(), small(table, second=None, unseen_groups=["c5"], **named)
    second = fitted(other)
    assert first["reward"].unseen != second["reward"].unseen and weights() == before and len(counted) == 2
    assert "Testing the oracle reward on other sequences than before" in " ".join(capsys.readouterr().err.split())
    assert fitted(other) == second and (second["reward"].tested, second["reward"].sequences) == (33, 68)
    noted = json.loads((REWARD / QUALITY).read_text())
    del noted["settings"]["tested"], noted["tested"]
    (REWARD / QUALITY).write_text(json.dumps(noted | {"unseen": 0.5}))  # as a run of before left it
    assert fitted(other)["reward"] == second["reward"] and len(counted) == 2 and weights() == before


def test_neighbouring_seeds_share_no_network_and_the_first_has_those_it_had(table, counted):
    what = small(table, members=2, second=None)
    fitted(what)
    assert counted == [0, 1, 1000, 1001]
    fitted(replace(what, seed=1, output="other"))
    assert counted[4:] == [10_000, 10_001, 11_000, 11_001]


def test_a_part_that_is_too_small_is_named_before_anything_is_fitted(table, capsys):
    words = [table, *COLUMNS[:4], "--group", "part", *QUICK, "--reward_groups", "r", "--judge_groups", "j"]
    head, *rows = Path(table).read_text().splitlines()
    for sizes, told in (
        ({"j": 19, "u": 20}, "'judge': the part 'judge' has only 19 sequences, and 20 are the least"),
        ({"j": 20, "u": 9}, "'reward': the part 'unseen' has only 9 sequences, and 10 are the least that an oracle is"),
    ):
        parts = [part for part, size in sizes.items() for _ in range(size)]
        cells = [f"{row},{part}" for row, part in zip(rows, parts + ["r"] * (len(rows) - len(parts)), strict=True)]
        Path(table).write_text("\n".join([f"{head},part", *cells]) + "\n")
        assert main(["design", *words, "--unseen_groups", "u"]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert told in said and "Share the groups out otherwise (--reward_groups" in said
        assert not Path("out").exists()


def test_a_kept_oracle_is_warned_of_again_and_a_broken_one_called_so(table, capsys):
    Path("mine.py").write_text("def same(words):\n    return [1.0 for _ in words]\n")
    what = small(table, second=None, judge_oracle="mine.py:same")
    fitted(what)
    capsys.readouterr()
    assert fitted(what)["judge"].tested == 33
    said = " ".join(capsys.readouterr().err.split())
    assert "oracle judge is kept, correlation 0.000 with 33 sequences. That is weak (below 0.3): what it says" in said
    broken = Quality(40, float("nan"), {}, tested=12)
    assert broken.worth == "The oracle is broken: its answers are no numbers"
    shown = str(_trust(what, {"reward": broken, "judge": Quality(0, 0.5, {}, tested=33)}).rows)
    assert "The oracle is broken" in shown and "12" in shown and "33" in shown


def test_what_was_replaced_does_not_count_for_its_old_settings(table, monkeypatch, counted):
    """Stopped between the new networks and what is said of them."""
    what = small(table, second=None)
    fitted(what)

    def stop(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sepo.cli.oracles.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            fitted(replace(what, epochs=2))
    assert not (REWARD / QUALITY).is_file()
    fitted(what)
    assert counted == [0, 1000, 0, 0] and load_oracle(REWARD)(torch.zeros(1, 20, dtype=torch.long)).isfinite().all()


def with_holes(table: str, kept: Callable[[int], bool] = lambda row: row // 6 % 3 == 0) -> str:
    """The table with the second assay in some rows alone."""
    head, *rows = [line.split(",") for line in Path(table).read_text().splitlines()]
    second = head.index("second")
    for number, row in enumerate(rows):
        row[second] = row[second] if kept(number) else ""
    Path("holes.csv").write_text("\n".join(map(",".join, [head, *rows])) + "\n")
    return "holes.csv"


def test_holes_in_the_second_assay_are_no_matter_for_the_others(table, counted):
    whole = fitted(small(table))
    assert counted == [0, 1000, 2000]
    before = weights()
    holes = with_holes(table)
    assert len(task_of(small(holes)).measured) == len(task_of(small(table)).measured)
    found = fitted(small(holes))
    assert counted[3:] == [2000]  # the others have seen the same numbers
    after = weights()
    assert {path for path in after if after[path] != before[path]} == {"out/oracles/other/member_0/model.safetensors"}
    assert found["reward"] == whole["reward"] and found["other"].sequences < whole["other"].sequences / 2
    assert found["other"].unseen is not None and -1 <= found["other"].unseen <= 1


def test_an_oracle_from_outside_is_compared_with_the_second_assay_where_that_was_measured(table):
    Path("mine.py").write_text("def count(words):\n    return [word.count('TA') / 2 for word in words]\n")
    what = small(with_holes(table), second_oracle="mine.py:count")
    found = fitted(what)["other"]
    assert found.unseen is not None and found.unseen > 0.9
    assert float(task_of(what).metrics([None] * 2, [*task_of(what).measured.tokens[:2].numpy()])["second_share"]) >= 0


def test_a_second_assay_of_too_few_sequences_is_told(table, capsys):
    words = [*COLUMNS, *QUICK]
    assert main(["design", with_holes(table, lambda row: row % 10 == 0), *words]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "second='second': only 20 of the 200 sequences were measured in it, and 50 are the least" in said
    assert "180 rows: without a number of the second assay, and not used for it: row 3 'second' is empty" in said
    named = {"reward_groups": ["c1", "c2"], "judge_groups": ["c0", "c3"], "unseen_groups": ["c5"]}
    with pytest.raises(
        ValueError, match=r"'other': only 0 of the 33 sequences in the part 'unseen' were measured in the"
    ):
        fitted(small(with_holes(table, lambda row: row % 6 < 5), **named))


def test_clusters_take_the_place_of_a_column_of_groups(table):
    what = small(table, group=None, cluster=9)
    measured = task_of(what).measured
    split = split_of(what, measured)
    words = measured.alphabet.decode(measured.tokens)
    stretches = [
        {words[row][place : place + 9] for row in part.tolist() for place in range(12)}
        for part in (split.reward, split.judge, split.unseen)
    ]
    assert len(set(measured.groups)) < len(measured)  # some are related by chance
    assert not stretches[0] & stretches[1] and not stretches[0] & stretches[2] and not stretches[1] & stretches[2]


def test_the_generator_does_not_depend_on_the_second_assay(table):
    assert pretrained(small(table))
    made = Path("out/generator/model.safetensors").stat().st_mtime_ns
    config = Path("out/generator/config.yaml")
    recipe = yaml.safe_load(config.read_text())
    assert pretrained(small(table, second=None))
    recipe["task"]["init_args"]["second"] = "second"  # as runs of before had it
    config.write_text(yaml.safe_dump(recipe))
    assert pretrained(small(table))
    assert Path("out/generator/model.safetensors").stat().st_mtime_ns == made
