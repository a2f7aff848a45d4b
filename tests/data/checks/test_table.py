from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.data.checks.table import Finding, check_table
from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import write_manifest


@pytest.fixture
def people(tmp_path: Path) -> pd.DataFrame:
    """Sixteen rows at two sites with a balanced range of ages; tests change some of it."""
    rows = [
        {
            "participant_id": f"s{k:02d}",
            "image": str(tmp_path / f"s{k:02d}.nii.gz"),
            "age": 20.0 + 5 * (k // 2),
        }
        for k in range(16)
    ]
    return pd.DataFrame(rows).assign(site=list("AB" * 8), sex="F", split="train", session="", dataset="")


def cohort(table: pd.DataFrame) -> Cohort:
    return Cohort.read(write_manifest(table, Path(table["image"].iloc[0]).parent / "manifest.csv"))


def run(table: pd.DataFrame) -> list[Finding]:
    return list(check_table(cohort(table)))


def only(findings: list[Finding], code: str) -> Finding:
    found = [finding for finding in findings if finding.code == code]
    assert len(found) == 1, [finding.text for finding in findings]
    return found[0]


def test_a_person_on_both_sides_of_a_split_is_an_error(people):
    people.loc[3, ["participant_id", "session", "split"]] = ["s02", "2", "internal_test"]
    report = run(people)
    finding = only(report, "subject-across-splits")
    assert finding.level == "error"
    assert finding.row == 5
    assert "subject s02 is in internal_test here and in train at manifest.csv row 4" in finding.text


def test_a_person_in_two_test_sets_is_a_warning(people):
    people.loc[2, "split"] = "external_test"
    people.loc[3, ["participant_id", "session", "split"]] = ["s02", "2", "internal_test"]
    assert only(run(people), "subject-across-splits").level == "warning"


def test_an_external_site_that_is_trained_on_is_a_warning(people):
    people.loc[3, "split"] = "external_test"
    assert "site B is external_test in 1 rows and also in train" in only(run(people), "site-not-external").text


def test_rows_without_a_split_beside_others_are_noted(people):
    people.loc[3, "split"] = ""
    assert "1 rows have no split" in only(run(people), "split-empty").text
    assert only(run(people.assign(split="")), "no-split").level == "info"


def test_missing_and_impossible_ages_are_warnings(people):
    people.loc[1, "age"] = np.nan
    people.loc[2, "age"] = -1
    people.loc[3, "age"] = 640
    report = run(people)
    assert {finding.level for finding in report} <= {"warning", "info"}
    assert only(report, "age-missing").row == 3
    assert [f.row for f in report if f.code == "age-impossible"] == [4, 5]
    assert "no row has an age" in only(run(people.assign(age=np.nan)), "age-missing").text


@pytest.mark.parametrize(("factor", "unit"), [(12, "months"), (365.25, "days")])
def test_ages_in_another_unit_are_recognised_per_site(people, factor, unit):
    people.loc[people["site"] == "B", "age"] *= factor
    report = run(people)
    assert f"look like {unit}" in only(report, "age-unit").text
    assert not [finding for finding in report if finding.code == "age-impossible"]


def test_years_of_birth_are_recognised(people):
    people["age"] = 1990 - people["age"]
    texts = [finding.text for finding in run(people) if finding.code == "age-unit"]
    assert len(texts) == 2
    assert all("look like years of birth" in text for text in texts)


def test_sites_of_one_subject_are_warnings(people):
    people.loc[3, "site"] = "C"
    finding = only(run(people), "site-of-one")
    assert finding.row == 5
    assert "site C has one subject only" in finding.text


def test_a_site_name_that_two_datasets_use_is_a_warning(people):
    people["dataset"] = ["IXI"] * 8 + ["GSP"] * 8
    people.loc[9:, "site"] = "C"
    finding = only(run(people), "site-shared")
    assert (finding.level, finding.row) == ("warning", 10)
    assert "site A is named by dataset GSP here and by IXI at manifest.csv row 2 (s00)" in finding.text
    assert "such as GSP-A" in finding.text
    people.loc[8, "dataset"] = ""
    assert "site-shared" not in {finding.code for finding in run(people)}, "an empty dataset is no other one"


def test_missing_sites_and_sexes_are_notes(people):
    people.loc[3, ["site", "sex"]] = ""
    report = run(people)
    assert only(report, "site-missing").level == only(report, "sex-missing").level == "info"
    assert only(run(people.assign(site="")), "no-site").level == "info"


def test_a_person_of_two_sexes_is_a_warning(people):
    people.loc[3, ["participant_id", "session", "sex"]] = ["s02", "2", "M"]
    assert "sex of subject s02 is F at manifest.csv row 4" in only(run(people), "sex-odd").text
    table = cohort(people).table
    table.loc[5, "sex"] = "X"
    codes = [f.text for f in check_table(Cohort(table)) if f.code == "sex-odd"]
    assert any("sex 'X' is neither M nor F" in text for text in codes)


def test_few_training_subjects_are_a_warning(people):
    assert "9 training subjects" in only(run(people.iloc[:9]), "few-subjects").text


def test_a_split_without_a_row_to_train_on_is_an_error(people):
    found = only(run(people.assign(split=["internal_test", ""] * 8)), "no-train")
    assert (found.level, found.row) == ("error", None)
    assert "nothing to train on" in found.text
    assert not [f for f in run(people) + run(people.assign(split="")) if f.code == "no-train"]


def test_a_family_on_both_sides_of_a_split_is_an_error(people):
    people["family"] = ""
    assert not [finding for finding in run(people) if finding.code.startswith("family")]
    people.loc[[2, 7], "family"] = "F"
    people.loc[7, "split"] = "internal_test"
    finding = only(run(people), "family-across-splits")
    assert (finding.level, finding.row) == ("error", 9)
    assert "family F is in train (manifest.csv row 4 (s02)) and in internal_test here" in finding.text
    people.loc[2, "split"] = "external_test"
    assert only(run(people), "family-across-splits").level == "warning"
    people.loc[2, "split"] = "internal_test"
    assert not [finding for finding in run(people) if finding.code.startswith("family")]


def test_one_person_across_splits_is_no_torn_family_and_everybody_is_no_family(people):
    people["family"] = ""
    people.loc[[2, 3], "family"] = "F"
    people.loc[3, ["participant_id", "session", "split"]] = ["s02", "2", "internal_test"]
    assert [f.code for f in run(people) if "across" in f.code] == ["subject-across-splits"]
    finding = only(run(people.assign(family=["yes"] * 12 + ["no"] * 4, split="train")), "family-large")
    assert finding.level == "warning"
    assert "family yes, with others that share people with it, holds 11 of 15 people" in finding.text


@pytest.mark.oddity("two-ages-of-one-visit")
def test_two_ages_of_one_person_at_one_session_are_named_with_both_values(people):
    people.loc[3, ["participant_id", "session", "age"]] = ["s02", "1", 31.0]
    people.loc[2, ["session", "age"]] = ["1", 25.0]
    finding = only(run(people), "age-contradicts")
    assert (finding.level, finding.row) == ("warning", 5)
    assert "age of subject s02 at session 1 is 25 at manifest.csv row 4 (s02) and 31 here" in finding.text


@pytest.mark.oddity("two-ages-of-one-visit")
def test_ages_of_two_visits_and_rounded_ones_do_not_contradict(people):
    people.loc[3, ["participant_id", "session", "age"]] = ["s02", "2", 31.0]
    people.loc[2, ["session", "age"]] = ["1", 25.0]
    people.loc[5, ["participant_id", "age"]] = ["s04", 30.04]
    people.loc[4, "age"] = 30.0
    assert not [f for f in run(people) if f.code.endswith("contradicts")]
    people.loc[3, "session"] = ""
    people.loc[2, "session"] = ""
    assert "where no session tells the visits apart" in only(run(people), "age-contradicts").text


@pytest.mark.oddity("two-diagnoses-of-one-visit")
def test_two_diagnoses_of_one_person_at_one_session_are_named_with_both_values(people):
    people = people.assign(diagnosis="HC")
    people.loc[3, ["participant_id", "session", "age", "diagnosis"]] = ["s02", "1", people["age"][2], "AD"]
    people.loc[2, "session"] = "1"
    finding = only(run(people), "diagnosis-contradicts")
    assert "diagnosis of subject s02 at session 1 is HC at manifest.csv row 4 (s02) and AD here" in finding.text
    people.loc[3, "diagnosis"] = ""
    assert not [f for f in run(people) if f.code == "diagnosis-contradicts"]


@pytest.mark.oddity("two-sexes-of-one-person")
def test_two_sexes_of_one_person_are_named_with_both_values(people):
    people.loc[3, ["participant_id", "session", "sex"]] = ["s02", "2", "M"]
    assert "sex of subject s02 is F at manifest.csv row 4 (s02) and M here" in only(run(people), "sex-odd").text


@pytest.mark.oddity("words-for-missing")
def test_what_was_read_otherwise_or_as_missing_is_a_finding_with_its_number(people):
    people = people.assign(age=people["age"].astype(object), volume=1500.0)
    people.loc[0, "age"], people.loc[1, "age"], people.loc[2, "volume"] = "35Y", "18-38", -999.0
    report = run(people)
    assert only(report, "read-as-missing").text.startswith("1 cell of manifest.csv was read as missing: volume")
    assert sorted(f.text.split(" of ")[0] for f in report if f.code == "age-read") == ["1 age", "1 age"]
    assert {f.level for f in report if f.code in ("age-read", "read-as-missing")} == {"info"}


@pytest.mark.oddity("encoding")
def test_how_a_table_was_decoded_is_a_finding(people, tmp_path):
    made = cohort(people)
    path = made.paths[0]
    path.write_bytes(path.read_text().encode("utf-16"))
    assert "was read as UTF-16 text" in only(list(check_table(Cohort.read(path))), "table-read").text


@pytest.mark.oddity("age-unit-doubtful")
def test_a_few_ages_that_can_only_be_months_make_a_finding_of_the_unit(people):
    people["age"] = np.linspace(60, 150, 16)
    assert "(60 to 150) look like months" in only(run(people.assign(site="A")), "age-unit").text


@pytest.mark.oddity("formula-in-a-cell")
def test_names_that_a_spreadsheet_computes_are_a_warning(people):
    people["score"] = -1.5
    people["note"] = "-2,5"
    assert not [finding for finding in run(people) if finding.code == "formula"], "numbers are no formulas"
    people.loc[[2, 4], "site"] = "=HYPERLINK(1)"
    people["@sum"] = "x"
    finding = only(run(people), "formula")
    assert (finding.level, finding.row) == ("warning", 4)
    assert "1 column name (such as '@sum')" in finding.text
    assert "2 cells (such as site '=HYPERLINK(1)' at manifest.csv row 4 (s02))" in finding.text
    people.loc[0, "participant_id"] = "=1+sub-0001"
    assert "3 cells (such as participant_id '=1+sub-0001'" in only(run(people), "formula").text
