from __future__ import annotations

import pytest

from medssl.data.sources.visits import rows_of_visits


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("1", "01"),
        ("01", "1"),
        ("1.0", "01"),
        ("ses-1", "001"),
        ("M6", "M06"),
        ("M006", "m6"),
        ("ses-M06", "M06"),
        ("month 6", "M06"),
        ("baseline", "bl"),
        ("BL", "M00"),
        ("M0", "baseline"),
        ("visit 2", "v02"),
        ("pre", "PRE"),
    ],
)
@pytest.mark.oddity("session-spellings")
def test_spellings_of_one_session_meet(table: str, folder: str):
    assert rows_of_visits([folder], ["other", table]) == {folder: [1]}


@pytest.mark.parametrize(("table", "folder"), [("M12", "12"), ("1", "2"), ("pre", "post"), ("M6", "M60"), ("", "1")])
def test_other_sessions_do_not_meet(table: str, folder: str):
    assert rows_of_visits([folder], [table]) == {folder: []}


@pytest.mark.oddity("session-twice-in-the-folder")
def test_where_the_folder_has_both_spellings_the_exact_one_wins():
    assert rows_of_visits(["1", "01"], ["01", "1"]) == {"1": [1], "01": [0]}
    assert rows_of_visits(["1", "01"], ["1"]) == {"1": [0], "01": []}
    with pytest.raises(ValueError, match="session 001 of the table may be ses-1 or ses-01"):
        rows_of_visits(["1", "01"], ["001"])


def test_the_users_pairs_come_first():
    assert rows_of_visits(["a", "b"], ["M0", "M12"], [("M00", "ses-a"), ("M12", "b")]) == {"a": [0], "b": [1]}
    assert rows_of_visits(["01", "02"], ["1", "2"], [("1", "02"), ("2", "01")]) == {"01": [1], "02": [0]}
