from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder
from medssl.data.sources.merge import merge_persons
from medssl.data.sources.tables import write_manifest
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, notes, scans, table


@pytest.mark.oddity("session-spellings")
@pytest.mark.parametrize("column", ["session", "session_id"])
def test_every_visit_gets_its_own_row_however_it_is_spelled(tmp_path: Path, column: str):
    bids(tmp_path, "01/M00", "01/M06", "01/M12")
    table(tmp_path, f"participant_id {column} age diagnosis\nsub-01 bl 70 CN\nsub-01 M6 70.5 CN\nsub-01 m012 71 MCI\n")
    found = scan_folder(tmp_path)
    assert found["session"].tolist() == ["ses-M00", "ses-M06", "ses-M12"]
    assert found["age"].tolist() == [70.0, 70.5, 71.0]
    assert found["diagnosis"].tolist() == ["CN", "CN", "MCI"]


@pytest.mark.oddity("session-spellings")
def test_sessions_of_flat_folders_meet_too(tmp_path: Path):
    scans(tmp_path, "a7_ses-01_T1w.nii.gz", "a7_ses-02_T1w.nii.gz")
    table(tmp_path, "participant_id session age\na7 1 70\na7 2 72\n")
    assert scan_folder(tmp_path, layout="flat")["age"].tolist() == [70.0, 72.0]


@pytest.mark.oddity("sessions-that-do-not-meet")
@pytest.mark.parametrize("layout", ["bids", "flat"])
def test_sessions_of_which_none_meets_are_refused_with_both_spellings_and_can_be_named(tmp_path: Path, layout: str):
    bids(tmp_path, "01/A", "01/B", "02/A")
    table(tmp_path, "participant_id session age\nsub-01 first 70\nsub-01 second 72\nsub-02 first 50\n")
    with pytest.raises(ManifestError) as refused:
        scan_folder(tmp_path, layout=layout)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / 'participants.tsv'}: no session of sub-01")
    assert "(first, second)" in said
    assert "(ses-A, ses-B)" in said
    assert "and so of 1 more" in said
    assert "--session first=ses-A" in said
    found = scan_folder(tmp_path, layout=layout, sessions=[("first", "ses-A"), ("second", "B")])
    assert found["age"].tolist() == [70.0, 72.0, 50.0]
    partly = scan_folder(tmp_path, layout=layout, sessions=[("none", "A"), ("second", "B")])
    assert partly["age"].fillna(-1).tolist() == [-1, 72.0, -1]


@pytest.mark.oddity("session-twice-in-the-folder")
def test_a_row_that_may_mean_two_folders_is_refused_by_name(tmp_path: Path):
    bids(tmp_path, "01/1", "01/01")
    table(tmp_path, "participant_id session age\nsub-01 1 70\nsub-01 01 71\n")
    assert dict(zip(*scan_folder(tmp_path)[["session", "age"]].to_numpy().T, strict=True)) == {
        "ses-1": 70.0,
        "ses-01": 71.0,
    }
    table(tmp_path, "participant_id session age\nsub-01 001 70\n")
    with pytest.raises(ManifestError, match=r"sub-01\): session 001 of the table may be ses-0?1 or ses-0?1"):
        scan_folder(tmp_path)


@pytest.mark.oddity("visit-without-a-row")
def test_a_visit_without_a_row_takes_no_age_from_another_but_its_sex(tmp_path: Path):
    bids(tmp_path, "01/1", "01/2", "02/1")
    table(tmp_path, "participant_id session age sex diagnosis\nsub-01 1 70 F AD\nsub-02 1 50 M CN\n")
    found = scan_folder(tmp_path)
    assert math.isnan(found["age"][1])
    assert found["diagnosis"].tolist() == ["AD", "", "CN"]
    assert found["sex"].tolist() == ["F", "F", "M"]
    assert "1 visit without a row in the participants table" in notes(found)
    assert "sub-01 ses-2" in notes(found)


@pytest.mark.oddity("visit-without-a-row")
def test_a_visit_without_a_row_stays_the_same_person(tmp_path: Path):
    bids(tmp_path, "01/1", "01/2")
    table(tmp_path, "participant_id session age dataset family\nsub-01 1 70 OASIS f1\n")
    found = scan_folder(tmp_path)
    assert found["family"].tolist() == ["f1", "f1"]
    cohort = Cohort.read(write_manifest(found, tmp_path / "m.csv"))
    assert cohort.table["subject"].tolist() == ["OASIS/sub-01"] * 2


def test_one_row_without_a_session_serves_all_visits(tmp_path: Path):
    bids(tmp_path, "01/1", "01/2")
    table(tmp_path, "participant_id session age\nsub-01 n/a 70\n")
    assert scan_folder(tmp_path)["age"].tolist() == [70.0, 70.0]
    table(tmp_path, "participant_id session age\nsub-01 n/a 70\nsub-01 later 80\n")
    assert scan_folder(tmp_path)["age"].tolist() == [70.0, 70.0]


@pytest.mark.oddity("image-without-a-session")
@pytest.mark.parametrize("layout", ["bids", "flat"])
def test_an_image_without_a_session_takes_only_what_all_rows_say(tmp_path: Path, layout: str):
    bids(tmp_path, "01", "02")
    table(
        tmp_path,
        "participant_id session age sex site diagnosis\nsub-01 1 70 F a CN\nsub-01 2 72 F a AD\nsub-02 1 50 M b CN\n",
    )
    found = scan_folder(tmp_path, layout=layout)
    assert math.isnan(found["age"][0])
    assert found["age"][1] == 50.0
    assert found["sex"].tolist() == ["F", "M"]
    assert found["site"].tolist() == ["a", "b"]
    assert found["diagnosis"].tolist() == ["", "CN"]
    assert "the images of 1 person name no session" in notes(found)
    assert "(age, diagnosis): sub-01" in notes(found)


@pytest.mark.oddity("contradicting-rows")
@pytest.mark.parametrize("visit", ["", "/1"])
def test_rows_of_one_visit_that_contradict_each_other_are_named_and_left_empty(tmp_path: Path, visit: str):
    bids(tmp_path, f"01{visit}", f"02{visit}")
    rows = ["participant_id session age site score", "sub-01 1 70 a 5", "sub-01 1 71 a 5", "sub-02 1 50 b 7"]
    table(tmp_path, "\n".join(rows))
    found = scan_folder(tmp_path)
    assert math.isnan(found["age"][0])
    assert found["age"][1] == 50.0
    assert found["site"].tolist() == ["a", "b"]
    assert found["score"].tolist() == ["5", "7"]
    where = "sub-01 ses-1" if visit else "sub-01"
    assert f"contradict each other, and these values were left empty: {where} age 70 and 71" in notes(found)


@pytest.mark.oddity("contradicting-sexes")
def test_two_sexes_of_one_person_are_named_and_left_empty_at_every_visit(tmp_path: Path):
    bids(tmp_path, "01/1", "01/2", "02/1")
    table(tmp_path, "participant_id session age sex\nsub-01 1 70 F\nsub-01 2 71 M\nsub-02 1 50 M\n")
    found = scan_folder(tmp_path)
    assert found["sex"].tolist() == ["", "", "M"]
    assert found["age"].tolist() == [70.0, 71.0, 50.0]
    assert "sub-01 sex F and M" in notes(found)


def test_rows_that_repeat_each_other_are_taken_and_said(tmp_path: Path):
    bids(tmp_path, "01", "02")
    table(tmp_path, "participant_id age sex\nsub-01 70 F\nsub-01 70 n/a\nsub-02 50 M\n")
    found = scan_folder(tmp_path)
    assert found["age"].tolist() == [70.0, 50.0]
    assert found["sex"].tolist() == ["F", "M"]
    assert "1 ids have several rows in the participants table, which agree: sub-01" in notes(found)
    assert "contradict" not in notes(found)


@pytest.mark.oddity("one-row-for-several-visits")
def test_one_row_that_stands_for_several_visits_is_said(tmp_path):
    images = pd.DataFrame(
        [["sub-01", "ses-1", "a"], ["sub-01", "ses-2", "b"], ["sub-02", "ses-1", "c"]],
        columns=["participant_id", "session", "image"],
        dtype=object,
    )
    persons = pd.DataFrame({"participant_id": ["sub-01", "sub-02"], "age": [60.0, 50.0]})
    notes: list[str] = []
    out = merge_persons(images, persons, notes)
    assert out["age"].tolist() == [60.0, 60.0, 50.0]
    assert "1 person with several visits have one row without a session" in notes[0]
    assert notes[0].endswith("sub-01")
