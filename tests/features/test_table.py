from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.errors import StaleError, UserError
from medssl.features import files
from medssl.features.columns import META, feature_columns
from medssl.features.table import FeatureTable


def example() -> FeatureTable:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 7)).astype(np.float32)
    values[0, :4] = [1e-38, 3.4e38, 0.1, -0.0]
    meta = pd.DataFrame(
        {
            "participant_id": ["007", "sub-1", "000123456789", 'a "quoted", id', "é"],
            "session": ["01", "", "1", "", ""],
            "age": [6.123456789012345, np.nan, 33.0, 1 / 3 + 50, 86.0],
            "sex": ["F", "M", "", "M", "F"],
            "site": ["01", "01", "B", "", "3"],
            "dataset": ["IXI"] * 5,
            "split": ["train", "train", "internal_test", "external_test", ""],
            "diagnosis": [""] * 5,
            "subject": ["007", "sub-1", "x", "y", "z"],
            "tiv": [1.25, np.nan, 3.0, 4.0, 5.0],
            "scanner_id": ["0012", "0013", "0014", "0015", "0016"],
        }
    )
    return FeatureTable(meta, values, {"encoder": "abc", "manifest": {"sha": "def"}, "rows": 5})


def same(one: FeatureTable, other: FeatureTable) -> None:
    assert np.array_equal(one.values.view(np.int32), other.values.view(np.int32))
    assert list(one.meta.columns) == list(other.meta.columns)
    for name in one.meta.columns:
        a, b = one.meta[name].tolist(), other.meta[name].tolist()
        assert [repr(v) for v in a] == [repr(v) for v in b], name
    assert one.provenance == other.provenance


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".npz"])
def test_round_trip_is_exact(tmp_path: Path, suffix: str) -> None:
    table = example()
    path = table.write(tmp_path / "out" / f"features{suffix}")
    same(table, FeatureTable.read(path))


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_same_table_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path, suffix: str) -> None:
    for folder in ("a", "b"):
        example().write(tmp_path / folder / f"t{suffix}")
    assert (tmp_path / "a" / f"t{suffix}").read_bytes() == (tmp_path / "b" / f"t{suffix}").read_bytes()
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == ({"t.csv", "t.csv.json"} if suffix == ".csv" else {"t.npz"})


def test_csv_has_meta_columns_then_numbered_features(tmp_path: Path) -> None:
    header = example().write(tmp_path / "t.csv").read_text().splitlines()[0].split(",")
    assert header == [*META, "subject", "tiv", "scanner_id", *(f"f{i:04d}" for i in range(7))]


def test_random_float32_bit_patterns_survive_text(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, size=4000, dtype=np.uint32).view(np.float32)
    values = bits[np.isfinite(bits)][:3000].reshape(100, 30)
    table = FeatureTable(pd.DataFrame({"participant_id": [f"{i:03d}" for i in range(100)]}), values)
    assert np.array_equal(FeatureTable.read(table.write(tmp_path / "t.csv")).values, values)


def test_a_table_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = example().write(tmp_path / "t.csv")
    path.write_text(path.read_text().replace("IXI", "ixi"))
    with pytest.raises(StaleError, match=r"t\.csv\.json .*sha256 differs.*medssl embed"):
        FeatureTable.read(path)


def test_a_missing_record_means_unknown_provenance(tmp_path: Path) -> None:
    path = example().write(tmp_path / "t.csv")
    files.record_of(path).unlink()
    assert FeatureTable.read(path).provenance == {}


def test_a_record_names_the_digest_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    path = example().write(tmp_path / "t.csv")
    record = files.record_of(path)
    assert json.loads(record.read_text())["sha256"] == files.sha256(path)
    record.write_text("{")
    with pytest.raises(UserError, match="no valid JSON"):
        FeatureTable.read(path)


def test_an_interrupted_write_keeps_the_old_table_and_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = example().write(tmp_path / "t.csv")
    before = path.read_bytes()

    def full(table: FeatureTable, file: object, separator: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_text", full)
    with pytest.raises(UserError, match="no space left"):
        example().write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_a_foreign_table_keeps_ids_as_text_and_understands_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "foreign.tsv"
    path.write_text(
        "participant_id\te0\te1\tage\tsite\tsex\tscore\n"
        "00012\t1.5\t-2\t33.5\t07\tmale\t1\n"
        "00013\t0.25\t4e-3\tn/a\tNA\tFEMALE\t2\n"
    )
    table = FeatureTable.read(path)
    assert table.meta["participant_id"].tolist() == ["00012", "00013"]
    assert table.meta["site"].tolist() == ["07", ""]
    assert table.meta["sex"].tolist() == ["M", "F"]
    assert table.meta["score"].tolist() == [1, 2]
    assert table.meta["split"].tolist() == ["", ""]
    assert np.isnan(table.meta["age"][1])
    assert np.array_equal(table.values, np.array([[1.5, -2], [0.25, 4e-3]], np.float32))


def test_a_file_saved_by_a_spreadsheet_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("﻿participant_id,f0\r\n01,2.5\r\n".encode())
    table = FeatureTable.read(path)
    assert table.meta["participant_id"].tolist() == ["01"]
    assert table.values.tolist() == [[2.5]]


def test_feature_columns_are_f_then_e_then_the_given_prefix() -> None:
    assert feature_columns(["age", "f0001", "f0000", "e1", "foo"]) == ["f0001", "f0000"]
    assert feature_columns(["age", "e10", "e2", "eTIV"]) == ["e10", "e2"]
    assert feature_columns(["site", "s_1", "s_2", "session"], prefix="s") == ["s_1", "s_2"]
    assert feature_columns(["fold0", "fold1", "f_1", "f_2"], prefix="f") == ["f_1", "f_2"]
    with pytest.raises(UserError, match="no feature column"):
        feature_columns(["age", "site"])
    with pytest.raises(UserError, match="'roi_'"):
        feature_columns(["age", "f0"], prefix="roi_")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("participant_id,f0\na,1\nb,high\n", r"row 3: f0 is 'high', not a number"),
        ("participant_id,f0,f0\na,1,2\n", "two columns called 'f0'"),
        ("participant_id,f0\na,1,2\n", "row 2 has 3 cells but the header has 2"),
        ("participant_id,f0,f1\na,1,2\nb,1\n", "row 3 has 2 cells"),
        ("participant_id,f0\n", "no row"),
        ("", "is empty; it needs a header line"),
    ],
)
def test_a_broken_table_is_one_clear_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        FeatureTable.read(path)


def test_an_empty_cell_is_a_missing_feature_not_a_zero(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("participant_id,f0,f1\na,1,\n")
    assert np.isnan(FeatureTable.read(path).values[0, 1])


def test_missing_files_unknown_formats_and_binary_rubbish_are_named(tmp_path: Path) -> None:
    for name in ("none.csv", "run"):
        with pytest.raises(UserError, match="does not exist"):
            FeatureTable.read(tmp_path / name)
    with pytest.raises(UserError, match="must end in"):
        example().write(tmp_path / "t.xlsx")
    for name in ("t.npz", "t.csv"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00rubbish\x80")
        with pytest.raises(UserError, match=name):
            FeatureTable.read(tmp_path / name)


def test_parquet_without_pyarrow_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        example().write(tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_parquet_round_trip_where_pyarrow_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    same(example(), FeatureTable.read(example().write(tmp_path / "t.parquet")))


def test_parts_that_do_not_fit_are_refused() -> None:
    meta = pd.DataFrame({"participant_id": ["a", "b"]})
    with pytest.raises(UserError, match="2 rows of meta data but 3"):
        FeatureTable(meta, np.ones((3, 2)))
    with pytest.raises(UserError, match="at least 1 feature"):
        FeatureTable(meta, np.ones((2, 0)))
    with pytest.raises(UserError, match="name of a feature"):
        FeatureTable(meta.assign(f0000=1.0), np.ones((2, 1))).frame()


def test_subset_keeps_rows_and_provenance_in_the_order_asked() -> None:
    part = example().subset([3, 0])
    assert part.meta["participant_id"].tolist() == ['a "quoted", id', "007"]
    assert np.array_equal(part.values, example().values[[3, 0]])
    assert part.provenance == example().provenance
    assert len(example().subset(np.array([True, False, False, False, True]))) == 2


def test_provenance_must_be_json(tmp_path: Path) -> None:
    table = FeatureTable(pd.DataFrame({"participant_id": ["a"]}), np.ones((1, 1)), {"x": object()})
    with pytest.raises(UserError, match="JSON"):
        table.write(tmp_path / "t.npz")
    assert list(tmp_path.iterdir()) == []


def test_table_and_scorecard_never_import_torch() -> None:
    code = "import sys, medssl.features.table, medssl.features.files; "
    code += "import medssl.evaluation.scorecard, medssl.evaluation.online; "
    code += "assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_groups_of_feature_columns_are_refused_unless_the_first_was_written_here():
    with pytest.raises(UserError, match=r"f1 and e000 to e002 \(3 columns\).*rename or drop.*prefix=\"e\""):
        feature_columns(["site", "f1", "e000", "e001", "e002"])
    assert feature_columns(["f1", "e000", "e001"], prefix="e") == ["e000", "e001"]
    assert feature_columns(["e1", "f0000", "f0001"]) == ["f0000", "f0001"]


def test_columns_with_a_meaning_are_known_in_any_case(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Participant_ID,Age,Site,SPLIT,Note,f0,f1\n01,30,A,train,x,1,2\n")
    read = FeatureTable.read(path).meta.iloc[0]
    assert (read["participant_id"], read["age"], read["site"], read["split"]) == ("01", 30.0, "A", "train")
    assert read["Note"] == "x"
    frame = FeatureTable.from_frame(pd.DataFrame({"Age": [30], "age": [31], "Sex": ["f"], "f0": [1.0]}))
    assert frame.meta[["age", "sex", "Age"]].iloc[0].tolist() == [31.0, "F", 30]


@pytest.mark.oddity("words-for-missing")
def test_words_for_missing_are_empty_in_the_meta_data_and_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("participant_id,age,site,iq,f0\na,.,NA,-9,1\nb,unknown,-,101,2\nc,31,Oslo,99,3\n")
    table = FeatureTable.read(path)
    assert np.isnan(table.meta["age"].to_numpy()[:2]).all()
    assert table.meta["site"].tolist() == ["", "", "Oslo"]
    assert np.isnan(table.meta["iq"].to_numpy(float)[0])
    assert any('site "NA" (1), site "-" (1)' in note for note in table.notes)
    assert any('iq "-9" (1)' in note for note in table.notes)
    assert FeatureTable.read(table.write(tmp_path / "clean.csv")).notes == ()


@pytest.mark.oddity("codes-among-features")
def test_codes_stay_what_they_are_among_features(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("participant_id,f0,f1\na,-999,999\nb,1,2\nc,2,3\n")
    table = FeatureTable.read(path)
    assert table.values[0].tolist() == [-999.0, 999.0]
    assert table.notes == ()


@pytest.mark.oddity("age-with-unit")
@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_ages_of_a_features_table_are_read_by_the_one_rule_and_said(tmp_path: Path, suffix: str) -> None:
    meta = pd.DataFrame(
        {"participant_id": list("abcde"), "age": ["35Y", "006M", "89+", "18-38", "-9999"]}, dtype=object
    )
    table = FeatureTable(meta, np.ones((5, 2)))
    assert table.meta["age"].tolist()[:3] == [35.0, 0.5, 89.0]
    assert np.isnan(table.meta["age"].to_numpy()[3:]).all()
    assert len(table.notes) == 4
    again = FeatureTable.read(table.write(tmp_path / f"t{suffix}"))
    assert again.meta["age"].tolist()[:3] == [35.0, 0.5, 89.0]
    assert again.notes == (), "what is written is clean"


@pytest.mark.oddity("age-zero")
def test_the_age_of_a_newborn_stays_in_a_part_of_its_table() -> None:
    meta = pd.DataFrame({"participant_id": list("abc"), "age": [0.0, 40.0, 2.0]})
    table = FeatureTable(meta, np.ones((3, 1)))
    assert table.subset([0, 1]).meta["age"].tolist() == [0.0, 40.0]
    alone = FeatureTable(meta.iloc[:2], np.ones((2, 1)))
    assert np.isnan(alone.meta["age"][0])
    assert alone.notes == ("1 age of the table was left empty, being 0 where nobody else is under 15",)


@pytest.mark.oddity("codes-for-missing")
def test_codes_in_columns_of_numbers_are_empty_unless_they_are_ids() -> None:
    meta = pd.DataFrame({"participant_id": list("abc"), "tiv": [1500.0, -999.0, 1400.0], "scan_id": [-9, 1, 2]})
    table = FeatureTable(meta, np.ones((3, 1)))
    assert np.isnan(table.meta["tiv"][1])
    assert table.meta["scan_id"].tolist() == [-9, 1, 2]
    assert table.notes == ('1 cell of the table was read as missing: tiv "-999" (1)',)


@pytest.mark.oddity("encoding")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_features_table_in_any_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("participant_id,site,f0\r\na,Zürich,1.5\r\n".encode(encoding))
    table = FeatureTable.read(path)
    assert table.meta["site"].tolist() == ["Zürich"]
    assert table.values.tolist() == [[1.5]]
    assert bool(table.notes) == (encoding != "utf-8-sig")


@pytest.mark.oddity("separator")
@pytest.mark.parametrize("mark", ["\t", ";", "  "])
def test_a_features_table_with_any_separator_is_read_and_that_is_said(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("".join(mark.join(line) + "\n" for line in (["participant_id", "f0", "f1"], ["a", "1.5", "2"])))
    table = FeatureTable.read(path)
    assert table.values.tolist() == [[1.5, 2.0]]
    assert "is separated by" in table.notes[0]


@pytest.mark.oddity("decimal-comma")
def test_features_with_decimal_commas_are_read_between_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("participant_id;age;f0;f1\na;35,5;1,5;-2\nb;40;0,25;3,0e-1\n")
    table = FeatureTable.read(path)
    assert np.allclose(table.values, [[1.5, -2], [0.25, 0.3]])
    assert table.meta["age"].tolist() == [35.5, 40.0]
    assert "features of t.csv were read with decimal commas" in table.notes
    path.write_text('participant_id,f0\na,"1,5"\n')
    with pytest.raises(UserError, match=r"row 2: f0 is '1,5', not a number"):
        FeatureTable.read(path)


@pytest.mark.oddity("codes-for-missing")
@pytest.mark.parametrize("name", ["family", "Family", "FAMILY"])
@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_families_keep_numbers_that_are_codes_elsewhere(tmp_path: Path, name: str, suffix: str) -> None:
    meta = pd.DataFrame({"participant_id": list("abcd"), name: [1, 999, 999, 12], "iq": [100, 999, 90, 80]})
    table = FeatureTable(meta, np.ones((4, 2), dtype=np.float32))
    assert table.meta[name].tolist() == [1, 999, 999, 12]
    assert np.isnan(table.meta["iq"][1])
    read = FeatureTable.read(table.write(tmp_path / f"t{suffix}"))
    assert [float(v) for v in read.meta[name]] == [1, 999, 999, 12]
    words = FeatureTable(meta.assign(**{name: ["1", "999", "999", "12"]}), np.ones((4, 2), dtype=np.float32))
    assert words.meta[name].tolist() == ["1", "999", "999", "12"]
