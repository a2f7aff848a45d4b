from __future__ import annotations

import math
from pathlib import Path

import pytest

from medssl.data.cohorts.bids import scan_folder
from medssl.errors import ManifestError
from tests.data.cohorts.trees import bids, notes, table


@pytest.mark.oddity("sessions-table")
def test_a_table_of_sessions_meets_the_folder_in_any_spelling(tmp_path: Path):
    bids(tmp_path, "01/M00", "01/M06", "01/M12")
    table(tmp_path, "participant_id sex\nsub-01 F\n")
    table(tmp_path / "sub-01", "session_id age score\nbl 70 1\nM6 70.5 -9\n", "sub-01_sessions.tsv")
    found = scan_folder(tmp_path)
    assert found["age"].fillna(-1).tolist() == [70.0, 70.5, -1]
    assert found["score"].tolist() == ["1", "", ""]
    assert found["sex"].tolist() == ["F", "F", "F"]
    assert "1 visit without a row in sessions.tsv" in notes(found)


@pytest.mark.oddity("sessions-table")
def test_tables_of_sessions_of_which_none_meets_are_refused_with_both_spellings(tmp_path: Path):
    bids(tmp_path, "01/A", "01/B")
    table(tmp_path / "sub-01", "session_id age\nfirst 70\nsecond 71\n", "sub-01_sessions.tsv")
    with pytest.raises(
        ManifestError, match=r"sessions\.tsv: no session of sub-01 .*\(first, second\).*\(ses-A, ses-B\)"
    ):
        scan_folder(tmp_path)
    found = scan_folder(tmp_path, sessions=[("first", "A"), ("second", "B")])
    assert found["age"].tolist() == [70.0, 71.0]


@pytest.mark.oddity("sessions-table")
def test_a_table_of_sessions_of_a_folder_without_them_gives_what_its_rows_share(tmp_path: Path):
    bids(tmp_path, "01", "02")
    table(tmp_path / "sub-01", "session_id age site\n1 70 a\n2 71 a\n", "sub-01_sessions.tsv")
    table(tmp_path / "sub-02", "session_id age site\n1 50 b\n", "sub-02_sessions.tsv")
    found = scan_folder(tmp_path)
    assert math.isnan(found["age"][0])
    assert found["age"][1] == 50.0
    assert found["site"].tolist() == ["a", "b"]


def test_codes_are_told_from_the_tables_of_all_people_together(tmp_path: Path):
    bids(tmp_path, "01/1", "02/1")
    for label, change in (("01", "-9"), ("02", "-4")):
        table(tmp_path / f"sub-{label}", f"session_id change\n1 {change}\n", f"sub-{label}_sessions.tsv")
    assert scan_folder(tmp_path)["change"].tolist() == ["-9", "-4"]


def test_a_table_of_sessions_without_sessions_is_refused(tmp_path: Path):
    bids(tmp_path, "01/1")
    table(tmp_path / "sub-01", "when age\n1 70\n", "sub-01_sessions.tsv")
    with pytest.raises(ManifestError, match=r"sub-01_sessions\.tsv: has no column session_id"):
        scan_folder(tmp_path)
