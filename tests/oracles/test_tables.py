"""Files of tables: each kind is read alike, and what shifts or breaks one is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas
import pytest

from sepo.oracles import read_measurements

FRAME = pandas.DataFrame({"sequence": ["ACGT", "ACGA", "ACGN"], "activity": [1.5, 2.0, 3.0], "chrom": ["a", "b", "b"]})


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.parquet", "t.pq", "T.CSV", "t.csv.gz"])
def test_every_kind_of_file_says_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(("parquet", "pq")):
        FRAME.to_parquet(path)
    else:
        FRAME.to_csv(path, sep="\t" if name.endswith(("tsv", "txt")) else ",", index=False)
    found = read_measurements(str(path), group="chrom")
    assert found.alphabet.decode(found.tokens) == ["ACGT", "ACGA"] and found.activity.tolist() == [1.5, 2.0]
    row = 3 if "p" in path.suffix else 4
    assert found.groups == ("a", "b") and str(found.findings[0]).endswith(f"row {row} 'ACGN' ('N' at letter 4)")


def test_an_index_with_a_name_is_a_column_of_parquet(tmp_path: Path) -> None:
    FRAME.set_index("sequence").to_parquet(tmp_path / "t.parquet")
    assert len(read_measurements(str(tmp_path / "t.parquet"))) == 2


@pytest.mark.parametrize("kind", ["fasta", "fa", "fna", "faa", "ffn", "FNA"])
def test_fasta_has_many_names(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"t.{kind}").write_text("\ufeff>a activity=1\nACGT\n>b activity=2\nACGA\n", encoding="utf-8")
    assert read_measurements(str(tmp_path / f"t.{kind}")).activity.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["sequence,activity", "ACGT,1,", "ACGA,2"], "row 2 has 3 fields and the header 2"),
        (["sequence,activity", "ACGT,1,", "ACGA,2,"], "row 2 has 3 fields and the header 2"),
        (["sequence,activity", "ACGT,1", "ACGA,2,"], "row 3 has 3 fields and the header 2"),
        (["", "sequence,activity", "ACGT,1,5", "ACGA,2,5"], "row 3 has 3 fields and the header 2"),
        (["id,activity,sequence,note", "7,1,5,ACGT,x"], "row 2 has 5 fields and the header 4"),
        (["sequence,activity", "ACGT,1,,,"], "row 2 has 5 fields and the header 2"),
        (["sequence,activity", "ACGT,1", "", "ACGA,2,3"], "row 4 has 3 fields and the header 2"),
        (["sequence;activity", "ACGT;1,5", "ACGA;2,5"], "its fields seem to be separated by semicolons; write it with"),
        (["sequence\tactivity", "ACGT\t1"], "its fields seem to be separated by tabs; name it .tsv."),
        ([], "No columns to parse from file."),
    ],
)
def test_a_table_whose_fields_do_not_fit_its_header_is_refused(tmp_path: Path, lines: list[str], told: str) -> None:
    (tmp_path / "odd.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=rf"odd\.csv cannot be read as a table: {told}"):
        read_measurements(str(tmp_path / "odd.csv"))


def test_commas_in_a_table_of_tabs_are_told(tmp_path: Path) -> None:
    (tmp_path / "odd.tsv").write_text("sequence,activity\nACGT,1\n")
    with pytest.raises(ValueError, match=r"odd\.tsv .* separated by commas; name it \.csv"):
        read_measurements(str(tmp_path / "odd.tsv"))


def test_separators_in_quotes_and_a_column_without_a_name_are_no_surplus(tmp_path: Path) -> None:
    lines = ["sequence,activity,note,", 'ACGT,1,"a, b",', 'ACGA,2,"a\nb",', "ACGC,3,,"]
    (tmp_path / "fine.csv").write_text("\n".join(lines) + "\n")
    assert read_measurements(str(tmp_path / "fine.csv")).activity.tolist() == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"junk" * 10])
def test_a_broken_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.parquet cannot be read as a table: .*Parquet"):
        read_measurements(str(tmp_path / "broken.parquet"))


def test_a_broken_gzip_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"sequence,activity\n" + b"ACGT,1\n" * 99)[:40])
    with pytest.raises(ValueError, match=r"cut\.csv\.gz cannot be read as a table"):
        read_measurements(str(tmp_path / "cut.csv.gz"))
