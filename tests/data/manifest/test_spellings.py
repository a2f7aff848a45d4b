from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medssl.data.checks.table import check_table
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.groups import refuse_leaks
from medssl.data.manifest.spellings import spelling_notes
from medssl.errors import ManifestError
from medssl.tables.people import ascii_if_odd


def cohort(tmp_path: Path, name: str = "m.csv", **columns: list[str]) -> Path:
    n = len(next(iter(columns.values())))
    rows = pd.DataFrame({"participant_id": [f"p{k}" for k in range(n)], "split": ["train"] * n, "age": 30}).assign(
        image=[f"{name}{k}.nii" for k in range(n)], **columns
    )
    rows.to_csv(tmp_path / name, index=False)
    return tmp_path / name


def findings(cohort: Cohort, code: str) -> list[tuple[int | None, str]]:
    return [(f.row, f.text) for f in check_table(cohort) if f.code == code and f.level == "warning"]


@pytest.mark.oddity("id-in-two-spellings")
def test_ids_of_one_spelling_key_are_a_finding_and_a_note_with_rows_and_remedy(tmp_path: Path):
    split = ["train", "train", "internal_test", "train"]
    found = Cohort.read(cohort(tmp_path, participant_id=["7", "a", "sub-007", "b"], split=split))
    ((row, text),) = findings(found, "id-spelling")
    assert row == 4
    assert text.startswith(
        "two ids may be one person in two spellings ('7' at m.csv row 2 (7) and 'sub-007' at m.csv row 4 (sub-007)), "
        "and these stand in train and in a test split, a leak if they are one person; write one spelling where"
    )
    assert "fill the column dataset with different names" in text
    assert spelling_notes(found) == [text]
    told_apart = Cohort.read(
        cohort(tmp_path, participant_id=["7", "a", "sub-007", "b"], split=split, dataset=["x", "x", "y", "x"])
    )
    assert spelling_notes(told_apart) == []


@pytest.mark.oddity("dataset-on-one-side")
def test_a_data_set_that_only_one_of_two_manifests_names_is_a_finding(tmp_path: Path):
    one = cohort(tmp_path, "a.csv", participant_id=["1", "2"], dataset=["oslo", "oslo"])
    two = cohort(tmp_path, "b.csv", participant_id=["2", "3"], split=["external_test"] * 2)
    ((_, text),) = findings(Cohort.read([one, two]), "id-spelling")
    assert "'2' of oslo at a.csv row 3 (2) and '2' without a dataset at b.csv row 2 (2)" in text
    assert "a leak if they are one person" in text


@pytest.mark.oddity("equal-ids-in-two-manifests")
def test_equal_ids_of_manifests_without_data_sets_count_as_two_people_and_are_a_finding(tmp_path: Path):
    files = [cohort(tmp_path, name, participant_id=["1", "2", "3"]) for name in ("a.csv", "b.csv")]
    ((_, text),) = findings(Cohort.read(files), "id-spelling")
    assert text.startswith("3 pairs of ids may each be one person in two spellings ('1' of")
    assert "a leak" not in text


@pytest.mark.oddity("site-in-two-spellings")
def test_sites_and_data_sets_that_differ_in_spelling_alone_are_findings(tmp_path: Path):
    found = Cohort.read(cohort(tmp_path, site=["Oslo", "oslo", "1", "1.0"], dataset=["x", "X", "y", "y"]))
    ((_, sites),) = findings(found, "site-spelling")
    assert sites.startswith("4 names of a site differ in spelling alone ('Oslo', 1 row, and 'oslo', 1 row; ")
    assert len(findings(found, "dataset-spelling")) == 1
    assert len(spelling_notes(found)) == 2


FAMILIES = [
    ("F1", "f1"),
    ("F01", "F1"),
    ("M\u00fcller", "Mu\u0308ller"),
    ("F1", "F\u200b1"),
    ("F1", "\uff261"),
    ("1200000", "1.2e6"),
]


@pytest.mark.oddity("family-in-two-spellings")
@pytest.mark.parametrize(("one", "other"), FAMILIES)
def test_families_that_differ_in_spelling_alone_are_a_finding_and_a_note(tmp_path: Path, one: str, other: str):
    split = ["train", "train", "internal_test"]
    found = Cohort.read(cohort(tmp_path, family=[one, "G", other], split=split))
    ((row, text),) = findings(found, "family-spelling")
    assert row == 4
    assert text.startswith("two families may be one family in two spellings (")
    assert f"{ascii_if_odd(one)} at m.csv row 2 (p0) and {ascii_if_odd(other)} at m.csv row 4 (p2)" in text
    assert "and these stand in train and in a test split, a leak if they are one family; write one spelling" in text
    assert spelling_notes(found) == [text]
    apart = cohort(tmp_path, family=[one, "G", other], split=split, dataset=["x", "x", "y"])
    assert spelling_notes(Cohort.read(apart)) == []


@pytest.mark.oddity("two-family-columns")
def test_two_columns_of_families_are_one_with_a_note_or_refused(tmp_path: Path):
    split = ["train", "train", "internal_test"]
    names = {"family": ["", "", ""], "Family": ["F", "", ""], "FAMILY": ["", "", "F"]}
    found = Cohort.read(cohort(tmp_path, split=split, **names))
    assert found.table["family"].tolist() == ["F", "", "F"]
    assert [name for name in found.table.columns if name.lower() == "family"] == ["family"]
    assert any("'family' and 'Family' and 'FAMILY' of m.csv were read as one column family" in n for n in found.notes)
    with pytest.raises(ManifestError, match="family F is in train"):
        refuse_leaks(found)
    both = cohort(tmp_path, split=split, Family=["F", "", "G"], FAMILY=["F", "", "H"])
    with pytest.raises(ManifestError, match=r"m.csv: the columns 'Family' and 'FAMILY' name two families of row 4 "):
        Cohort.read(both)
