from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.sources.bids import scan_folder
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, notes, table


def _two(root: Path) -> list[Path]:
    for name in ("oslo", "lund"):
        table(
            bids(root / name, "01/1", "02/1"), "participant_id session site age\nsub-01 baseline NA 30\nsub-02 1 x 40\n"
        )
    return [root / "oslo", root / "lund"]


@pytest.mark.oddity("option-that-nothing-meets")
def test_a_column_of_keep_must_be_in_one_of_several_tables(tmp_path: Path):
    folders = _two(tmp_path)
    sessions = [("baseline", "ses-1")]
    for which in (folders, tmp_path):
        with pytest.raises(
            ManifestError, match=r"--keep sitte=NA: no participants table .*'sitte' \(did you mean 'site'\?"
        ):
            scan_folder(which, keep=[("sitte", "NA")], sessions=sessions)
    assert "site-NA" in scan_folder(folders, keep=[("site", "NA")], sessions=sessions)["site"].tolist()
    (folders[0] / "participants.tsv").unlink()
    (folders[1] / "participants.tsv").unlink()
    with pytest.raises(ManifestError, match="--keep site=NA: no folder has a participants table"):
        scan_folder(folders, keep=[("site", "NA")])


@pytest.mark.oddity("option-that-nothing-meets")
@pytest.mark.parametrize("column", ["participant_id", "age", "Age", "age_months", "sex", "session"])
def test_keep_is_for_names(tmp_path: Path, column: str):
    table(bids(tmp_path, "01"), "participant_id age\nsub-01 30\n")
    with pytest.raises(ManifestError, match=rf"--keep {column}=50: {column} holds no names.*site, dataset, diagnosis"):
        scan_folder(tmp_path, keep=[(column, "50")])


@pytest.mark.oddity("option-that-nothing-meets")
def test_keep_knows_the_tables_own_names(tmp_path: Path):
    table(bids(tmp_path, "01"), "ID years\nsub-01 30\n")
    with pytest.raises(ManifestError, match="ID holds no names"):
        scan_folder(tmp_path, columns={"participant_id": "ID", "age": "years"}, keep=[("ID", "NA")])


@pytest.mark.oddity("option-that-nothing-meets")
@pytest.mark.parametrize("several", [True, False])
def test_a_session_that_no_table_has_is_refused_with_the_nearest(tmp_path: Path, several: bool):
    folders = _two(tmp_path)
    which = folders if several else folders[0]
    with pytest.raises(ManifestError, match=r"no table has a session 'basline' \(did you mean 'baseline'\?\)"):
        scan_folder(which, sessions=[("basline", "ses-1"), ("1", "ses-1")])
    found = scan_folder(which, sessions=[("BL", "ses-1"), ("none", "ses-7")])
    assert found["age"].notna().all()


@pytest.mark.oddity("option-that-nothing-meets")
def test_sessions_of_other_tables_count_too(tmp_path: Path):
    table(bids(tmp_path, "01/1") / "sub-01", "session_id age\nM12 31\n", "sub-01_sessions.tsv")
    assert scan_folder(tmp_path, sessions=[("M12", "ses-1")])["age"].tolist() == [31.0]
    with pytest.raises(ManifestError, match=r"'M21' \(did you mean 'M12'\?\)"):
        scan_folder(tmp_path, sessions=[("M21", "ses-1")])
    table(tmp_path, "participant_id age\nsub-01_ses-M6 30\n")
    with pytest.raises(ManifestError, match="meets one in the folder"):
        scan_folder(tmp_path, sessions=[("M12", "ses-1")])
    assert "hold a session" in notes(scan_folder(tmp_path, sessions=[("M6", "ses-1"), ("M12", "ses-1")]))
