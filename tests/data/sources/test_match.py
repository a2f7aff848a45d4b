from __future__ import annotations

import math
from pathlib import Path

import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder
from medssl.data.sources.match import met_people, named_id
from medssl.data.sources.tables import write_manifest
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, notes, scans, table


@pytest.mark.oddity("id-with-a-session")
@pytest.mark.parametrize("layout", ["bids", "flat"])
def test_an_id_that_holds_a_session_is_a_person_and_a_visit(tmp_path: Path, layout: str):
    bids(tmp_path, "01/01", "01/02")
    table(tmp_path, "participant_id age\nsub-01_ses-01 70\nsub-01_ses-02 71\n")
    found = scan_folder(tmp_path, layout=layout)
    assert found["participant_id"].tolist() == ["sub-01", "sub-01"]
    assert found["age"].tolist() == [70.0, 71.0]
    assert "2 ids of the participants table hold a session, which was read" in notes(found)


@pytest.mark.oddity("id-in-other-capitals")
@pytest.mark.parametrize("layout", ["bids", "flat"])
@pytest.mark.parametrize("written", ["SUB-Ab1", "Sub-AB1", "ab1"])
def test_an_id_in_other_capitals_is_met(tmp_path: Path, layout: str, written: str):
    bids(tmp_path, "Ab1", "Cd2")
    table(tmp_path, f"participant_id age\n{written} 70\nCd2 50\n")
    found = scan_folder(tmp_path, layout=layout)
    assert found["age"].tolist() == [70.0, 50.0]
    assert len(set(found["participant_id"])) == 2
    if layout == "bids" and written != "SUB-Ab1":
        assert f"written in other letters than in the folder and were matched: {written}" in notes(found)


def test_ids_are_guessed_only_where_they_can_mean_one_person():
    said: list[str] = []
    assert met_people(["AB", "ab"], ["sub-ab"], said) == ["", "ab"]
    assert met_people(["AB", "Ab"], ["sub-ab"], said) == ["", ""]
    assert met_people(["AB"], ["sub-ab", "sub-Ab"], said) == [""]
    assert met_people(["7", "007"], ["007"], said) == ["", "007"]
    assert met_people(["7"], ["007", "07"], said) == [""]


@pytest.mark.oddity("id-as-a-number")
@pytest.mark.parametrize("written", ["7", "07", "7.0"])
@pytest.mark.parametrize("layout", ["bids", "flat"])
def test_an_id_that_a_spreadsheet_took_for_a_number_is_met(tmp_path: Path, layout: str, written: str):
    bids(tmp_path, "007", "008")
    table(tmp_path, f"participant_id age\n{written} 70\n008 50\n")
    assert scan_folder(tmp_path, layout=layout)["age"].tolist() == [70.0, 50.0]


@pytest.mark.oddity("id-that-is-nearly-another")
def test_ids_that_do_not_meet_are_suggested_both_ways(tmp_path: Path):
    bids(tmp_path, "patient1", "patient2", "0051456")
    table(tmp_path, "participant_id age\npateint1 70\npatient2 60\nNYU0051456 40\n")
    found = scan_folder(tmp_path, layout="bids")
    said = notes(found)
    assert "2 images have no row in the participants table" in said
    assert "(did you mean NYU0051456 for sub-0051456, pateint1 for sub-patient1?)" in said
    assert "(did you mean sub-patient1 for pateint1, sub-0051456 for NYU0051456?)" in said
    assert math.isnan(found["age"][0])


def test_people_of_neighbouring_numbers_are_not_suggested(tmp_path: Path):
    bids(tmp_path, "IXI012", "IXI014")
    table(tmp_path, "participant_id age\nIXI013 70\nIXI014 60\n")
    assert "did you mean" not in notes(scan_folder(tmp_path))


@pytest.mark.oddity("id-called-na")
@pytest.mark.parametrize("label", ["NA", "nan", "none"])
def test_somebody_called_na_is_not_dropped(tmp_path: Path, label: str):
    bids(tmp_path, label, "02")
    table(tmp_path, f"participant_id age\n{label} 70\n02 50\n")
    found = scan_folder(tmp_path)
    assert sorted(zip(found["participant_id"], found["age"], strict=True)) == sorted(
        [(f"sub-{label}", 70.0), ("sub-02", 50.0)]
    )


@pytest.mark.oddity("id-called-na")
@pytest.mark.parametrize("listed", [True, False])
def test_a_file_called_na_is_written_so_that_it_can_be_read_back(tmp_path: Path, listed: bool):
    scans(tmp_path, "NA_T1w.nii.gz", "b_T1w.nii.gz")
    if listed:
        table(tmp_path, "participant_id age\nNA 70\nb 50\n")
    found = scan_folder(tmp_path)
    cohort = Cohort.read(write_manifest(found, tmp_path / "m.csv"))
    assert sorted(cohort.table["participant_id"]) == ["b", "sub-NA"]
    assert named_id("NA") == "sub-NA"
    if listed:
        assert sorted(found["age"]) == [50.0, 70.0]


@pytest.mark.oddity("row-without-an-id")
def test_rows_without_an_id_are_counted(tmp_path: Path):
    bids(tmp_path, "01")
    table(tmp_path, "participant_id age\n01 70\nn/a 50\n")
    assert "1 rows of participants.tsv have no participant_id and were left out" in notes(scan_folder(tmp_path))


@pytest.mark.oddity("id-and-session-contradict")
@pytest.mark.parametrize("layout", ["bids", "flat"])
def test_an_id_whose_session_the_table_contradicts_is_named_and_not_used(tmp_path: Path, layout: str):
    bids(tmp_path, "01/01", "01/02", "02/01")
    rows = "sub-01_ses-01 2 50\nsub-01_ses-02 ses-2 60\nsub-02_ses-01 1 70\n"
    table(tmp_path, f"participant_id session age\n{rows}")
    found = scan_folder(tmp_path, layout=layout)
    assert found["age"].fillna(-1).tolist() == [-1, 60.0, 70.0]
    assert "1 row of the participants table not used" in notes(found)
    assert "column session: sub-01_ses-01 with session 2" in notes(found)


@pytest.mark.oddity("id-and-session-contradict")
def test_ids_whose_sessions_are_all_contradicted_are_refused(tmp_path: Path):
    table(bids(tmp_path, "01/01"), "participant_id session age\nsub-01_ses-01 2 50\n")
    with pytest.raises(ManifestError, match=r"other sessions than its column session: sub-01_ses-01 with session 2"):
        scan_folder(tmp_path)
