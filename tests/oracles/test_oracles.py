"""Tables, splits and oracles: what is read, who sees what, and that an oracle learns what the table says."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sepo.oracles import (
    ALPHABETS,
    ARCHITECTURES,
    ConvOracle,
    ConvOracleConfig,
    Ensemble,
    Fit,
    fit,
    load_oracle,
    read_measurements,
    save_oracle,
    split_by_group,
)
from sepo.oracles.alphabet import alphabet_named
from sepo.oracles.fitting import correlation, held_back, predicted
from sepo.oracles.measurements import write_fasta
from sepo.oracles.oracle import FromFunction
from tests.oracles.tables import LENGTH, write_table

COLUMNS = {"sequence": "seq", "activity": "act", "group": "chrom"}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "table.csv")


@pytest.fixture(scope="module")
def measured(table):
    return read_measurements(str(table), second="second", **COLUMNS)


def test_a_table_is_read_and_what_is_left_out_is_counted(measured) -> None:
    assert len(measured) == 600 and measured.length == LENGTH
    assert measured.dropped == {
        "letters outside the alphabet": 1,
        "not measured": 1,
        f"not of the commonest length, {LENGTH}": 1,
    }
    words = measured.alphabet.decode(measured.tokens)
    counts = torch.tensor([float(word.count("TA")) for word in words])
    assert correlation(counts, measured.activity) > 0.95 and measured.groups[:3] == ("c0", "c1", "c2")


def test_letters_go_to_tokens_and_back() -> None:
    dna = ALPHABETS["dna"]
    assert dna.encode(["ACGT", "TTAA"]).tolist() == [[0, 1, 2, 3], [3, 3, 0, 0]]
    assert dna.decode(torch.tensor([[3, 2, 1, 0]])) == ["TGCA"]
    with pytest.raises(ValueError, match=r"Sequence 1 .* the letter 'N'"):
        dna.encode(["ACGT", "ACGN"])
    with pytest.raises(ValueError, match=r"alphabet='dnna'"):
        alphabet_named("dnna")
    with pytest.raises(ValueError, match=r"alphabet='acgt': sequences are read as capitals.*give ACGT"):
        alphabet_named("acgt")
    assert alphabet_named("ABC#").letters == "ABC#"


def test_fasta_holds_numbers_in_its_headers_and_comes_back(tmp_path, measured) -> None:
    words = measured.alphabet.decode(measured.tokens[:50])
    names = [f"s{row} act={value:.4f} chrom=c{row % 2}" for row, value in enumerate(measured.activity[:50].tolist())]
    write_fasta(tmp_path / "some.fasta", names, words, width=7)
    (tmp_path / "some.fasta.gz").write_bytes(gzip.compress((tmp_path / "some.fasta").read_bytes()))
    for name in ("some.fasta", "some.fasta.gz"):
        again = read_measurements(str(tmp_path / name), activity="act", group="chrom")
        assert torch.equal(again.tokens, measured.tokens[:50]) and set(again.groups) == {"c0", "c1"}
        torch.testing.assert_close(again.activity, measured.activity[:50], atol=1e-4, rtol=0)


def test_what_is_wrong_with_a_table_is_named(table, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no column 'activity', but id, seq, act"):
        read_measurements(str(table), sequence="seq")
    with pytest.raises(ValueError, match=r"'chrom' holds something that is no number"):
        read_measurements(str(table), sequence="seq", activity="chrom")
    with pytest.raises(ValueError, match=r"no row has both a sequence of ACDEFG"):
        read_measurements(str(table), alphabet="ACDEFGHI", sequence="id", activity="act")
    with pytest.raises(ValueError, match=r"missing.csv is not there"):
        read_measurements(str(tmp_path / "missing.csv"))


def told(tmp_path: Path, lines: list[str], name: str = "odd.csv", **columns: str | None) -> list[str]:
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    return [str(each) for each in read_measurements(str(tmp_path / name), **columns).findings]  # type: ignore[arg-type]


def test_a_table_that_has_changed_is_read_anew(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("sequence,activity\nACGT,1\nACGA,2\n")
    first = read_measurements("table.csv")
    assert read_measurements("table.csv") is first and len(first) == 2
    Path("table.csv").write_text("sequence,activity\nACGT,1\n")
    assert len(read_measurements("table.csv")) == 1
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    Path("table.csv").write_text("sequence,activity\nACGT,1\nACGA,2\nACGG,2\n")
    assert len(read_measurements("table.csv")) == 3


def test_odd_rows_are_named_as_a_spreadsheet_numbers_them(tmp_path) -> None:
    lines = ["sequence,activity", "ACGT,1", "ACNT,2", "", "acga,3", "ACG,4", "ACGG,", ",5", "TTTT,6"]
    assert told(tmp_path, lines) == [
        "2 rows: letters outside the alphabet: row 3 'ACNT' ('N' at letter 3), row 8 (empty)",
        "1 row: not measured: row 7 'activity' is empty",
        "1 row: not of the commonest length, 4: row 6 'ACG' (3 letters)",
    ]
    kept = read_measurements(str(tmp_path / "odd.csv"))
    assert kept.rows.tolist() == [2, 5, 9] and kept.activity.tolist() == [1, 3, 6]
    assert kept.chosen(torch.tensor([2])).rows.tolist() == [9]


def test_rows_without_the_second_assay_are_used_and_named(tmp_path) -> None:
    lines = ["sequence,activity,k562", "ACGT,1,5", "ACGA,2,", "ACGG,,7", "ACGC,4, "]
    assert told(tmp_path, lines, second="k562") == [
        "1 row: not measured: row 4 'activity' is empty",
        "2 rows: without a number of the second assay, and not used for it: "
        "row 3 'k562' is empty, row 5 'k562' is empty",
    ]
    found = read_measurements(str(tmp_path / "odd.csv"), second="k562")
    assert found.activity.tolist() == [1, 2, 4] and found.dropped == {"not measured": 1}
    assert found.second is not None and found.second.isfinite().tolist() == [True, False, False]


def test_groups_of_whole_numbers_keep_their_names_beside_a_hole(tmp_path) -> None:
    lines = ["sequence,activity,fold", "ACGT,1,1", "ACGA,2,", "ACGG,3,10"]
    said = "1 row: without a group, and not used for the oracles: row 3 'fold' is empty"
    assert told(tmp_path, lines, group="fold") == [said]
    assert read_measurements(str(tmp_path / "odd.csv"), group="fold").groups == ("1", "", "10")
    assert told(tmp_path, [lines[0], "ACGT,1,", "ACGA,2,"], "none.csv", group="fold") == []
    told(tmp_path, [*lines, "ACGC,4,0.5"], "half.csv", group="fold")
    assert read_measurements(str(tmp_path / "half.csv"), group="fold").groups == ("1.0", "", "10.0", "0.5")


def test_many_odd_rows_are_counted_and_the_first_named(tmp_path) -> None:
    [said] = told(tmp_path, ["sequence,activity", "ACGT,1", *["NNNN,1"] * 9])
    assert said.startswith("9 rows: letters outside the alphabet: row 3 'NNNN'") and said.endswith("and 4 more")


def test_repeated_sequences_are_kept_and_named_with_what_they_repeat(tmp_path) -> None:
    lines = ["sequence,activity,chrom", "ACGT,1,c1", "ACGT,2,c1", "GGGG,1,c1", "ACGT,3,c2", "GGGG,1,c2"]
    said = told(tmp_path, lines, group="chrom")
    assert said[0] == "1 row: repeats a sequence of its group: row 3 as row 2, 'ACGT'"
    assert said[1].startswith("2 rows: repeats a sequence outside its group, so that an oracle may be tested on")
    assert said[1].endswith("row 5 as row 2, 'ACGT', row 6 as row 4, 'GGGG'")
    assert len(read_measurements(str(tmp_path / "odd.csv"), group="chrom")) == 5
    assert "outside its group" in told(tmp_path, ["sequence,activity", "ACGT,1", "ACGT,2"], "without.csv")[0]


def test_records_of_fasta_are_counted_from_one_and_leading_blank_lines_count(tmp_path) -> None:
    records = [">a activity=1", "ACGT", ">b activity=2", "ACNN"]
    assert told(tmp_path, records, "odd.fasta") == [
        "1 record: letters outside the alphabet: record 2 'ACNN' ('N' at letter 3)"
    ]
    assert told(tmp_path, ["", "", "sequence,activity", "ACGT,1", "ACNT,2"], "c.csv")[0].count("row 5 'ACNT'") == 1


def test_cells_that_are_no_number_are_named(tmp_path) -> None:
    for value in ("high", "inf", "1;2"):
        with pytest.raises(ValueError, match=rf"no number: 1 row: no number: row 3 '{value}'\. Give numbers, or leave"):
            told(tmp_path, ["sequence,activity", "ACGT,1", f"ACGA,{value}"], f"{value[0]}.csv")
    with pytest.raises(ValueError, match=r"ragged.csv cannot be read as a table: row 3 has 3 fields and the header 2"):
        told(tmp_path, ["sequence,activity", "ACGT,1", "ACGA,2,3"], "ragged.csv")
    with pytest.raises(ValueError, match=r"a number under 'activity': 1 row: letters .*row 2 'ACNT'"):
        told(tmp_path, ["sequence,activity", "ACNT,1"], "none.csv")


def test_no_group_is_seen_by_two_oracles(measured) -> None:
    split = split_by_group(measured.groups)
    seen = [{measured.groups[row] for row in part.tolist()} for part in (split.reward, split.judge, split.unseen)]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(map(len, (split.reward, split.judge, split.unseen))) == len(measured)
    assert 0.3 < len(split.reward) / len(measured) <= 0.5 and len(split.unseen) > 0


def test_groups_can_be_named_and_must_not_overlap(measured) -> None:
    split = split_by_group(measured.groups, ["c0", "c1"], ["c2"], ["c3"])
    assert {measured.groups[row] for row in split.reward.tolist()} == {"c0", "c1"} and len(split.judge) == 100
    with pytest.raises(ValueError, match="'c1' is in two parts"):
        split_by_group(measured.groups, ["c0", "c1"], ["c1"], ["c3"])
    with pytest.raises(ValueError, match="no group 'c9'"):
        split_by_group(measured.groups, ["c9"], ["c1"], ["c3"])
    with pytest.raises(ValueError, match="all three parts"):
        split_by_group(measured.groups, ["c0"])


@pytest.mark.parametrize("sizes", [(60, 20, 20), (70, 15, 15), (96, 2, 2), (50, 45, 5), (90, 4, 3, 3)])
def test_no_part_is_left_without_a_group_as_long_as_there_are_three(sizes) -> None:
    groups = [name for name, size in zip("abcd", sizes, strict=False) for _ in range(size)]
    split = split_by_group(groups)
    parts = [split.reward, split.judge, split.unseen]
    assert min(map(len, parts)) >= 2 and sorted(torch.cat(parts).tolist()) == list(range(100))
    with pytest.raises(ValueError, match=r"'unseen' has 0 sequences.*share out three groups or more.*--reward_groups"):
        split_by_group(["a"] * 50 + ["b"] * 50)


def test_the_largest_groups_go_to_whoever_lacks_most() -> None:
    groups = [name for name, size in zip("abcdef", (30, 25, 15, 12, 10, 8), strict=True) for _ in range(size)]
    split = split_by_group(groups)
    named = [{groups[row] for row in part.tolist()} for part in (split.reward, split.judge, split.unseen)]
    assert named == [{"a", "e"}, {"b", "d"}, {"c", "f"}]


def test_without_groups_rows_are_drawn() -> None:
    split = split_by_group([""] * 100)
    rows = torch.cat([split.reward, split.judge, split.unseen])
    assert rows.sort().values.tolist() == list(range(100)) and len(split.reward) == 40


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_oracle_learns_what_the_table_says(measured, architecture) -> None:
    told: list[float] = []
    stepped: list[float] = []
    counted = replace(measured, activity=10 + (measured.tokens == 0).sum(1).float())
    split = split_by_group(measured.groups, ["c0", "c1", "c2", "c3"], ["c4"], ["c5"])
    how = Fit(architecture, hidden_size=16, epochs=10, batch=32, lr=5e-3, patience=10)
    oracle = fit(counted.chosen(split.reward), how, lambda epoch, found: told.append(found), stepped.append)
    unseen = counted.chosen(split.unseen)
    found = predicted(oracle, unseen.tokens)
    assert correlation(found, unseen.activity) > 0.8 and len(told) == 10
    assert stepped == sorted(stepped) and stepped[-1] == 10 and len(stepped) > 10
    assert abs(float(found.mean() - unseen.activity.mean())) < 1  # in the unit of the table


def test_the_same_seed_fits_the_same_oracle(measured) -> None:
    first, second = (fit(measured.chosen(torch.arange(100)), Fit(hidden_size=8, epochs=2)) for _ in range(2))
    assert torch.equal(predicted(first, measured.tokens[:9]), predicted(second, measured.tokens[:9]))


def test_an_ensemble_pays_for_doubt_and_is_saved(measured, tmp_path) -> None:
    members = [fit(measured.chosen(torch.arange(100)), Fit(hidden_size=8, epochs=2, seed=seed)) for seed in (0, 1)]
    save_oracle(Ensemble(members), tmp_path)
    tokens = measured.tokens[:9]
    plain, doubting = load_oracle(tmp_path), load_oracle(tmp_path, doubt=2.0)
    torch.testing.assert_close(plain(tokens), torch.stack([predicted(each, tokens) for each in members]).mean(0))
    torch.testing.assert_close(doubting(tokens), plain(tokens) - 2 * plain.spread(tokens))
    assert float(plain.spread(tokens).min()) > 0 and plain.letters == "ACGT"
    with pytest.raises(ValueError, match="holds no oracle"):
        load_oracle(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="doubt=-1"):
        Ensemble(members, doubt=-1.0)


def test_weights_of_another_version_of_an_architecture_are_refused(measured, tmp_path) -> None:
    """transformers fills what is missing with noise, leaves out what it does not know, and only warns."""
    whole = ConvOracle(ConvOracleConfig(architecture="dilated", hidden_size=8))
    weights = whole.state_dict()
    older = {name: each for name, each in weights.items() if "running" not in name}
    newer = weights | {"body.9.weight": torch.zeros(8)}
    wider = weights | {"head.0.weight": torch.zeros(8, 9)}
    for number, state in enumerate((older, newer, wider)):
        whole.save_pretrained(tmp_path / f"{number}" / "member_0", state_dict=state)
        with pytest.raises(ValueError, match=r"another version has to be fitted again|cannot be opened"):
            load_oracle(tmp_path / f"{number}")


def test_a_file_that_was_cut_short_is_named(measured, tmp_path) -> None:
    ConvOracle(ConvOracleConfig(hidden_size=8)).save_pretrained(tmp_path / "member_0")
    weights = tmp_path / "member_0/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"member_0 cannot be opened: .* Delete .*, and fit it again"):
        load_oracle(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match=r"member_0 cannot be opened: .* Delete .*, and fit it again"):
        load_oracle(tmp_path)


@pytest.mark.parametrize("length", [1, 50, 300])
def test_a_residual_network_begins_as_its_filters_and_takes_any_length(length) -> None:
    oracle = ConvOracle(ConvOracleConfig(architecture="dilated", hidden_size=8)).eval()
    tokens = torch.randint(4, (5, length), generator=torch.Generator().manual_seed(0))
    found = predicted(oracle, tokens)
    torch.testing.assert_close(found[:1], predicted(oracle, tokens[:1]))  # whatever else is in the batch
    inside = [each for name, each in oracle.named_parameters() if "conv" in name]
    assert inside
    for each in inside:
        torch.nn.init.normal_(each)
    torch.testing.assert_close(predicted(oracle, tokens), found)


def test_each_architecture_has_its_learning_rate() -> None:
    assert Fit().rate == 2e-3 and Fit("dilated").rate == 6e-3 and Fit("dilated", lr=1e-3).rate == 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_soft_tokens_give_the_answers_of_hard_ones_and_a_gradient(measured, architecture) -> None:
    oracle = Ensemble([fit(measured.chosen(torch.arange(100)), Fit(architecture, hidden_size=8, epochs=1))])
    onehot = torch.nn.functional.one_hot(measured.tokens[:3], 4).float().requires_grad_()
    answers = oracle.soft(onehot)
    torch.testing.assert_close(answers.detach(), oracle(measured.tokens[:3]))
    (gradient,) = torch.autograd.grad(answers.sum(), onehot)
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize(
    ("sequences", "held"), [(1, 1), (2, 1), (15, 7), (20, 10), (99, 10), (100, 10), (119, 11), (4000, 400)]
)
def test_of_few_sequences_ten_are_held_back(sequences, held) -> None:
    assert held_back(sequences) == held


def test_a_handful_of_sequences_and_a_network_that_diverges_are_no_oracle(measured) -> None:
    with pytest.raises(ValueError, match=r"19 sequences: an oracle is fitted to 20 or more, of which 10"):
        fit(measured.chosen(torch.arange(19)), Fit(hidden_size=8, epochs=1))
    with pytest.raises(ValueError, match=r"diverged: with lr=1e\+30 it predicts NaN"):
        fit(measured.chosen(torch.arange(20)), Fit(hidden_size=8, epochs=2, lr=1e30))


def test_the_correlation_of_what_is_no_number_is_none() -> None:
    numbers, broken = torch.arange(3.0), torch.tensor([0.0, torch.nan, 1.0])
    assert math.isnan(correlation(numbers, broken)) and math.isnan(correlation(broken, numbers))
    assert correlation(numbers, torch.ones(3)) == 0 and correlation(numbers, -numbers) == pytest.approx(-1)


def test_a_function_of_text_is_an_oracle() -> None:
    oracle = FromFunction(lambda words: [word.count("A") for word in words], "ACGT")
    assert oracle(torch.tensor([[0, 0, 3], [1, 2, 3]])).tolist() == [2, 0]
    with pytest.raises(ValueError, match="1 numbers for 2 sequences"):
        FromFunction(lambda words: [1.0], "ACGT")(torch.tensor([[0], [1]]))


@pytest.mark.parametrize(
    ("sequences", "epochs", "patience"), [(2_000, 100, 25), (20_000, 12, 4), (200_000, 12, 4), (30, 800, 200)]
)
def test_a_small_table_is_read_more_often(sequences, epochs, patience) -> None:
    how = Fit.sized(sequences, "motifs")
    assert (how.epochs, how.patience) == (epochs, patience)
    assert Fit.sized(sequences, "motifs", epochs=3).epochs == 3
