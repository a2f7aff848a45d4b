from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import chosen_columns
from medssl.data.manifest.groups import about_families, refuse_leaks, with_family
from medssl.errors import ManifestError, UserError

SPLIT = ["train"] * 4 + ["internal_test"] * 2 + ["external_test"] * 2


def table(**columns: object) -> pd.DataFrame:
    rows = pd.DataFrame({"participant_id": [f"p{k}" for k in range(8)], "split": SPLIT, "age": range(30, 38)})
    return rows.assign(image=[f"p{k}.nii" for k in range(8)]).assign(**columns)


def cohort(tmp_path: Path, rows: pd.DataFrame) -> Cohort:
    rows.to_csv(tmp_path / "m.csv", index=False)
    return Cohort.read(tmp_path / "m.csv")


@pytest.mark.oddity("family-on-both-sides")
def test_a_family_on_both_sides_is_refused_with_both_rows(tmp_path: Path):
    rows = table(family=["", "F", "", "", "F", "", "", ""])
    with pytest.raises(ManifestError) as told:
        refuse_leaks(cohort(tmp_path, rows))
    assert str(told.value).startswith(
        "family F is in train (m.csv row 3 (p1)) and in internal_test (m.csv row 6 (p4)) (1 such test rows); keep each"
    )
    refuse_leaks(cohort(tmp_path, rows.assign(split=rows["split"].where(rows["family"] == "", ""))))
    refuse_leaks(cohort(tmp_path, rows.drop(columns="family")))


def test_a_family_in_two_test_parts_can_be_trained_beside(tmp_path: Path):
    found = cohort(tmp_path, table(family=["", "", "", "", "F", "", "F", ""]))
    refuse_leaks(found)
    (only,) = about_families(found)
    assert only[1:3] == ("warning", "family-across-splits")


def test_numbers_with_gaps_and_names_of_two_datasets_are_told_apart(tmp_path: Path):
    rows = table(family=[12, None, None, None, 12.0, None, None, None])
    assert set(cohort(tmp_path, rows).table["family"]) == {"12.0", ""}  # as pandas saves numbers with gaps
    with pytest.raises(ManifestError, match="family 12 is in train"):
        refuse_leaks(cohort(tmp_path, rows))
    with pytest.raises(ManifestError, match="family A/12 is in train"):
        refuse_leaks(cohort(tmp_path, rows.assign(dataset="A")))
    refuse_leaks(cohort(tmp_path, rows.assign(dataset=list("AAAABBBB"))))


def test_families_that_a_person_links_are_a_leak_without_a_shared_name(tmp_path: Path):
    rows = table(family=["F", "", "", "", "G", "", "", ""])
    bridge = [
        {"participant_id": "b", "split": "", "session": s, "image": f"b{s}.nii", "family": f} for s, f in ("1F", "2G")
    ]
    refuse_leaks(cohort(tmp_path, rows))
    with pytest.raises(
        ManifestError, match=r"through people who belong to two families, one group is in train .*p0.*p4"
    ):
        refuse_leaks(cohort(tmp_path, pd.concat([rows, pd.DataFrame(bridge)])))


def test_a_column_of_families_is_no_feature(tmp_path: Path):
    found = cohort(tmp_path, table(Family=range(8), thick=2.0, thin=1.0))
    assert chosen_columns(found, ["*"]) == ["thick", "thin"]
    with pytest.raises(ManifestError, match="Family is a label, not a feature"):
        chosen_columns(found, ["Family"])


@pytest.mark.oddity("family-in-another-column")
def test_another_column_becomes_the_family_unless_there_is_one(tmp_path: Path):
    rows = table(kin=["1", "1", "", "", "2", "2", "", ""])
    known = list(rows.columns)
    made = with_family(cohort(tmp_path, rows).table, "kin", known, "m.csv")
    assert made["family"].tolist()[:2] == [1.0, 1.0]
    for mistake, words in (("kim", "did you mean 'kin'"), ("zzzzzz", "known: .*participant_id")):
        with pytest.raises(UserError, match=words):
            with_family(made, mistake, known, "m.csv")
    with pytest.raises(UserError, match=r"the column .kin. of m\.csv is empty"):
        with_family(cohort(tmp_path, rows.assign(kin="-9")).table, "kin", known, "m.csv")
    same = cohort(tmp_path, rows.assign(family=rows["kin"].replace("1", "1.0"))).table
    assert with_family(same, "kin", known, "m.csv")["family"].tolist()[:2] == [1.0, 1.0]
    other = cohort(tmp_path, rows.assign(family=["1", "3", "", "", "2", "2", "", ""])).table
    with pytest.raises(UserError, match=r"m.csv row 3 \(p1\): family is '3' but kin is '1'.*leave --group out"):
        with_family(other, "kin", known, "m.csv")
    with_family(cohort(tmp_path, rows.assign(family="")).table, "kin", known, "m.csv")


@pytest.mark.oddity("links-to-one-scan")
def test_links_to_one_file_on_both_sides_are_refused(tmp_path: Path):
    rows = table()
    (tmp_path / "p1.nii").write_bytes(b"scan")
    (tmp_path / "p4.nii").symlink_to("p1.nii")
    with pytest.raises(ManifestError, match=r"row 6 \(p4\): its scan is the same file as that of m.csv row 3 \(p1\)"):
        refuse_leaks(cohort(tmp_path, rows))
    refuse_leaks(cohort(tmp_path, rows.assign(split=["", *rows["split"][1:4], "train", *rows["split"][5:]])))
