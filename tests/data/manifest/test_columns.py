from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medssl.cli.cohort import app
from medssl.data.checks.report import check
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import Columns, chosen_columns, raw_values
from medssl.errors import ManifestError, UserError


def table_of(path: Path, text: str) -> Cohort:
    path.write_text(text)
    return Cohort.read(path, images=False)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return table_of(
        tmp_path / "regions.csv",
        "participant_id,age,sex,site,split,a_vol,b_vol,c_thick,flat_vol,note\n"
        "007,20,M,x,train,1,10,5,4,p\n"
        "008,30,F,x,train,3,,7,4,q\n"
        "009,40,M,y,train,5,30,9,4,r\n"
        "010,50,F,z,external_test,100,1000,100,9,s\n",
    )


def test_a_table_needs_no_images_and_keeps_the_zeros_of_ids(cohort: Cohort):
    assert cohort.table["participant_id"].tolist() == ["007", "008", "009", "010"]
    assert cohort.table["image"].tolist() == [""] * 4
    with pytest.raises(ManifestError, match=r'no column "image".*--columns'):
        Cohort.read(cohort.paths[0])


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["*_vol"], ["a_vol", "b_vol", "flat_vol"]),
        (["c_*", "a_vol"], ["a_vol", "c_thick"]),
        (["*", "!note", "!flat*"], ["a_vol", "b_vol", "c_thick"]),
        (["!note"], ["a_vol", "b_vol", "c_thick", "flat_vol"]),
    ],
)
def test_patterns_choose_columns_in_the_order_of_the_table(cohort: Cohort, globs: list[str], names: list[str]):
    assert chosen_columns(cohort, globs) == names


@pytest.mark.parametrize(
    ("globs", "words"),
    [(["*_area"], 'fits "[*]_area"'), (["age"], "age is a label"), (["*_vol", "!*"], "no column is left")],
)
def test_patterns_that_choose_nothing_are_refused(cohort: Cohort, globs: list[str], words: str):
    with pytest.raises(ManifestError, match=words):
        chosen_columns(cohort, globs)


def test_statistics_are_those_of_the_training_rows_and_empty_cells_become_their_mean(cohort: Cohort):
    columns = Columns.fit(cohort, cohort.rows("train"), ["a_vol", "b_vol"])
    assert columns.mean.tolist() == [3.0, 20.0]
    assert np.allclose(columns.sd, [np.std([1, 3, 5]), 10.0])
    assert columns.filled == 1
    z = columns.matrix(cohort)
    assert z.dtype == np.float32
    assert z[1].tolist() == [0.0, 0.0]
    assert np.isclose(z[3, 1], 98.0)
    assert columns.provenance(cohort)["empty_cells"] == 1


def test_a_change_of_test_rows_never_changes_the_statistics(cohort: Cohort):
    columns = Columns.fit(cohort, cohort.rows("train"), ["a_vol"])
    other = cohort.table.assign(a_vol=cohort.table["a_vol"].where(cohort.table["split"] == "train", -1e6))
    again = Columns.fit(Cohort(other), cohort.rows("train"), ["a_vol"])
    assert again.to_dict() == columns.to_dict()


def test_constant_and_empty_columns_and_text_are_refused_by_name(cohort: Cohort):
    rows = cohort.rows("train")
    with pytest.raises(ManifestError, match=r'"flat_vol" is 4 in all 3 training rows.*"!flat_vol"'):
        Columns.fit(cohort, rows, ["*_vol"])
    with pytest.raises(ManifestError, match=r'row 2 \(007\): note is "p", but a feature is a number'):
        Columns.fit(cohort, rows, ["note"])
    empty = Cohort(cohort.table.assign(b_vol=cohort.table["b_vol"].where(cohort.table["split"] != "train")))
    with pytest.raises(ManifestError, match='"b_vol" is empty in all 3 training rows'):
        Columns.fit(empty, rows, ["b_vol"])


def test_the_card_gives_the_same_features_of_another_table_in_any_order(cohort: Cohort, tmp_path: Path):
    columns = Columns.fit(cohort, cohort.rows("train"), ["*", "!note", "!flat_vol"])
    again = Columns.from_dict(columns.to_dict())
    assert again.digest == columns.digest
    other = table_of(tmp_path / "other.csv", "participant_id,c_thick,b_vol,a_vol\n1,7,20,3\n2,,,\n")
    assert again.matrix(other).tolist() == [[0, 0, 0], [0, 0, 0]]
    less = table_of(tmp_path / "less.csv", "participant_id,c_thick,a_vol\n1,7,3\n")
    with pytest.raises(ManifestError, match=r'less\.csv has no column "b_vol"'):
        again.matrix(less)


@pytest.mark.parametrize("change", [{"mean": [1.0]}, {"names": []}, {"sd": [0.0, 1.0, 1.0]}, {"sd": "x"}])
def test_a_spoiled_card_is_refused(cohort: Cohort, change: dict[str, object]):
    card = Columns.fit(cohort, cohort.rows("train"), ["a_vol", "b_vol", "c_thick"]).to_dict()
    with pytest.raises(UserError, match="card"):
        Columns.from_dict({**card, **change})


def test_a_column_that_is_all_empty_elsewhere_is_filled(cohort: Cohort, tmp_path: Path):
    other = table_of(tmp_path / "other.csv", "participant_id,a_vol\n1,\n2,n/a\n")
    assert np.isnan(raw_values(other, ["a_vol"])).all()


@pytest.fixture
def measures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(10, 1, (40, 5)), columns=[f"r{k}_vol" for k in range(5)])
    table.insert(0, "participant_id", [f"{k:03d}" for k in range(40)])
    table["age"], table["site"] = rng.uniform(20, 70, 40).round(1), [f"s{k % 4}" for k in range(40)]
    table["sex"] = ["M", "F"] * 20
    table.to_csv(tmp_path / "m.csv", index=False)
    return tmp_path / "m.csv"


def test_a_sound_table_passes_the_check_and_says_how_many_features_it_has(measures: Path):
    report = check(Cohort.read(measures, images=False), columns=["*_vol"])
    assert report.ok
    assert report.summary["features"] == 5
    done = CliRunner().invoke(app, ["check", str(measures), "--columns", "*_vol,!r4_vol"])
    assert done.exit_code == 0
    assert "features  4" in done.output
    assert "voxels" not in done.output


def test_the_check_finds_what_would_break_or_spoil_a_table(measures: Path):
    table = pd.read_csv(measures, dtype={"participant_id": str})
    table["split"] = ["train"] * 30 + ["internal_test"] * 10
    table["flat_vol"], table["none_vol"] = 1.0, [np.nan] * 30 + [2.0] * 10
    table.loc[3, "r0_vol"] = np.nan
    table.loc[4, "r1_vol"] = 1e5
    features = [name for name in table if name.endswith("_vol")]
    table.loc[39, features] = table.loc[5, features]
    table.loc[7, features] = table.loc[6, features]
    table.to_csv(measures, index=False)
    report = check(Cohort.read(measures, images=False), columns=["*_vol"])
    found = {(f.level, f.code) for f in report.findings}
    assert found >= {
        ("error", "feature-constant"),
        ("error", "feature-empty"),
        ("warning", "feature-missing"),
        ("warning", "feature-far"),
        ("warning", "duplicate"),
    }
    assert any(f.code == "feature-far" and f.row == 6 for f in report.findings)
    assert CliRunner().invoke(app, ["check", str(measures), "--columns", "*_vol"]).exit_code == 1


def test_a_copy_across_train_and_test_is_an_error(measures: Path):
    table = pd.read_csv(measures, dtype={"participant_id": str})
    table["split"] = ["train"] * 30 + ["internal_test"] * 10
    table.loc[39, [f"r{k}_vol" for k in range(5)]] = table.loc[5, [f"r{k}_vol" for k in range(5)]]
    table.to_csv(measures, index=False)
    report = check(Cohort.read(measures, images=False), columns=["*"])
    assert [(f.level, f.row) for f in report.findings if f.code == "copy-across-splits"] == [("error", 41)]


def test_a_table_is_split_by_site_and_person_and_keeps_every_cell(measures: Path, tmp_path: Path):
    out = tmp_path / "split.csv"
    done = CliRunner().invoke(app, ["split", str(measures), "-o", str(out), "--external-sites", "s1"])
    assert done.exit_code == 0, done.output
    before, after = (pd.read_csv(p, dtype=str) for p in (measures, out))
    assert "image" not in after
    assert set(after.loc[after["site"] == "s1", "split"]) == {"external_test"}
    assert (after["split"] == "internal_test").sum() == 6
    for name in before.columns:
        assert after[name].tolist() == before[name].tolist()
