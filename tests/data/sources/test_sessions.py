from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from medssl.data.sources.bids import scan_folder
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, notes, table


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


def visits(root: Path, label: str, text: str, sidecar: object = None) -> None:
    """A table of sessions of one person, with its JSON file."""
    table(root / f"sub-{label}", text, f"sub-{label}_sessions.tsv")
    if sidecar is not None:
        (root / f"sub-{label}" / f"sub-{label}_sessions.json").write_text(json.dumps(sidecar))


MONTHS = {"age": {"Units": "months"}}


@pytest.mark.oddity("sessions-sidecar")
@pytest.mark.parametrize("other", [MONTHS, {"age": {"Units": "months"}, "iq": {"MissingValue": 77}}])
def test_every_table_of_sessions_is_read_by_its_own_json_file(tmp_path: Path, other: object):
    bids(tmp_path, "01/1", "01/2", "02/1", "03/1")
    visits(tmp_path, "01", "session_id age iq\nses-1 36 77\nses-2 48 100\n", MONTHS)
    visits(tmp_path, "02", "session_id age iq\nses-1 60 77\n", other)
    visits(tmp_path, "03", "session_id age iq\nses-1 40 -9\n", {"age": {"Units": "years"}})
    found = scan_folder(tmp_path)
    assert found["age"].tolist() == [3.0, 4.0, 5.0, 40.0]
    assert found["iq"].tolist() == ["77", "100", "77" if other == MONTHS else "", ""]
    assert "age of sessions.tsv is in months, as sub-01_sessions.json says, and was converted" in notes(found)


@pytest.mark.oddity("sessions-sidecar")
def test_the_folders_sessions_json_serves_tables_without_one(tmp_path: Path):
    bids(tmp_path, "01/1", "02/1")
    (tmp_path / "sessions.json").write_text(json.dumps(MONTHS))
    visits(tmp_path, "01", "session_id age\nses-1 36\n")
    visits(tmp_path, "02", "session_id age\nses-1 36\n", {"age": {"Units": "years"}})
    assert scan_folder(tmp_path)["age"].tolist() == [3.0, 36.0]


def test_codes_that_are_values_together_stay_although_json_files_differ(tmp_path: Path):
    bids(tmp_path, "01/1", "02/1")
    visits(tmp_path, "01", "session_id change\n1 -9\n", {"change": {"Units": "points"}})
    visits(tmp_path, "02", "session_id change\n1 -4\n")
    assert scan_folder(tmp_path)["change"].tolist() == ["-9", "-4"]


@pytest.mark.oddity("sessions-like-participants")
@pytest.mark.parametrize("column", ["sex", "gender"])
@pytest.mark.parametrize("given", [True, False])
def test_sex_in_tables_of_sessions_is_read_like_that_of_the_participants(tmp_path: Path, column: str, given: bool):
    bids(tmp_path, "01/1", "02/1")
    table(tmp_path, f"participant_id {column}\nsub-01 1\nsub-02 2\n")
    if not given:
        levels = {column: {"Levels": {"1": "female", "2": "male"}}}
        (tmp_path / "participants.json").write_text(json.dumps(levels))
    for label in ("01", "02"):
        visits(tmp_path, label, f"session_id sex\nses-1 {int(label)}\n")
    found = scan_folder(tmp_path, sex={"1": "F", "2": "M"} if given else None)
    assert found["sex"].tolist() == ["F", "M"]
    assert "differs" not in notes(found)


@pytest.mark.oddity("sessions-like-participants")
def test_a_units_of_the_participants_holds_where_the_sessions_name_none(tmp_path: Path):
    bids(tmp_path, "01/1", "02/1")
    table(tmp_path, "participant_id age\nsub-01 24\nsub-02 24\n")
    (tmp_path / "participants.json").write_text(json.dumps(MONTHS))
    visits(tmp_path, "01", "session_id age\nses-1 36\n", {"age": {"Levels": {"0": "n/a"}}})
    visits(tmp_path, "02", "session_id age\nses-1 36\n", {"age": {"Unit": "years"}})
    assert scan_folder(tmp_path)["age"].tolist() == [3.0, 36.0]


@pytest.mark.oddity("sessions-like-participants")
@pytest.mark.parametrize("sexes", ["M", "M F"])
def test_a_sex_that_contradicts_the_participants_table_is_empty_and_named(tmp_path: Path, sexes: str):
    bids(tmp_path, "01/1", "01/2", "02/1")
    table(tmp_path, "participant_id sex\nsub-01 F\nsub-02 F\n")
    rows = "".join(f"ses-{k} {sex}\n" for k, sex in enumerate(sexes.split(), 1))
    visits(tmp_path, "01", f"session_id sex\n{rows}")
    found = scan_folder(tmp_path)
    assert found["sex"].tolist() == ["", "", "F"]
    assert "sex differs between the participants table and tables of sessions, left empty: sub-01 F and M" in notes(
        found
    )


@pytest.mark.oddity("sessions-like-participants")
def test_the_users_words_reach_tables_of_sessions(tmp_path: Path):
    bids(tmp_path, "01/1", "02/1")
    table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\n")
    visits(tmp_path, "01", "session_id diagnosis when\nses-1 none 31\n")
    visits(tmp_path, "02", "session_id diagnosis when\nses-1 AD 41\n")
    found = scan_folder(tmp_path, keep=[("diagnosis", "none")], columns={"age": "when"})
    assert found["diagnosis"].tolist() == ["diagnosis-none", "AD"]
    assert found["age"].tolist() == [31.0, 41.0]
    with pytest.raises(ManifestError, match="'diagnose', of which --keep speaks"):
        scan_folder(tmp_path, keep=[("diagnose", "none")])
    with pytest.raises(ManifestError, match="'AGE', of which --column speaks"):
        scan_folder(tmp_path, columns={"age": "AGE"})


@pytest.mark.oddity("visit-without-a-row")
def test_what_changes_by_visit_is_not_taken_from_the_participants_for_other_visits(tmp_path: Path):
    bids(tmp_path, "01/1", "01/2", "01/3", "02/1")
    table(tmp_path, "participant_id age diagnosis site sex\nsub-01 30 CN Oslo F\nsub-02 50 AD Lund M\n")
    visits(tmp_path, "01", "session_id age diagnosis\nses-1 30 CN\nses-2 n/a AD\n")
    found = scan_folder(tmp_path)
    assert found["age"].fillna(-1).tolist() == [30.0, -1, -1, 50.0]
    assert found["diagnosis"].tolist() == ["CN", "AD", "", "AD"]
    assert found["site"].tolist() == ["Oslo"] * 3 + ["Lund"]
    assert found["sex"].tolist() == ["F"] * 3 + ["M"]
    assert (
        "age, diagnosis of 2 visits were not taken from the participants table, since the person's table of sessions "
        "gives them by visit: sub-01 ses-2, sub-01 ses-3" in notes(found)
    )


def test_rows_by_visit_of_the_participants_table_fill_what_tables_of_sessions_lack(tmp_path: Path):
    bids(tmp_path, "01/1", "01/2")
    table(tmp_path, "participant_id session_id age\nsub-01 ses-1 30\nsub-01 ses-2 31\n")
    visits(tmp_path, "01", "session_id age\nses-1 30\nses-2 n/a\n")
    assert scan_folder(tmp_path)["age"].tolist() == [30.0, 31.0]
