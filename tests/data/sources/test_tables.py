from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder
from medssl.data.sources.tables import read_table, write_manifest
from medssl.errors import ManifestError
from tests.data.sources.trees import bids, notes, table


@pytest.mark.oddity("participants-table-as-saved")
@pytest.mark.parametrize("separator", ["\t", ",", ";", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_are_read_as_people_save_them(tmp_path: Path, separator: str, end: str, encoding: str):
    bids(tmp_path, "01", "02")
    text = separator.join(("participant_id", "age", "place")) + end
    text += separator.join(("sub-01", "30.5", "Zürich")) + end + separator.join(("sub-02", "40", "Lund")) + end
    (tmp_path / "participants.tsv").write_bytes(text.encode(encoding))
    found = scan_folder(tmp_path)
    assert found["age"].tolist() == [30.5, 40.0]
    assert found["place"].tolist() == ["Zürich", "Lund"]
    for odd, word in ((separator == ";", "separated by semicolons"), (separator == " ", "separated by blanks")):
        assert (word in notes(found)) is odd
    assert ("was read as" in notes(found)) is (encoding in ("utf-16", "cp1252"))


@pytest.mark.oddity("participants-table-with-missing")
def test_words_and_codes_are_missing_and_said_but_ages_keep_their_codes(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("participant_id,age,AGE_AT_SCAN,site,iq,group\n1,-999,-9,N/A,101,?\n2,30,31,x,-9,none\n")
    said: list[str] = []
    found = read_table(path, said)
    assert found["age"].tolist() == ["-999", "30"]
    assert found["AGE_AT_SCAN"].tolist() == ["-9", "31"]
    assert found["site"].tolist() == ["", "x"]
    assert found["iq"].tolist() == ["101", ""]
    assert found["group"].tolist() == ["", ""]
    assert said == ['3 cells of t.csv were read as missing: iq "-9" (1), group "?" (1), group "none" (1)']
    assert read_table(path, None, {"age": "iq"})["iq"].tolist() == ["101", "-9"]


@pytest.mark.oddity("na-that-is-a-name")
@pytest.mark.parametrize("theirs", ["site", "SITE_ID"])
def test_a_word_that_is_a_name_is_kept(tmp_path: Path, theirs: str):
    bids(tmp_path, "01", "02", "03")
    table(tmp_path, f"participant_id {theirs} group\nsub-01 NA NA\nsub-02 Oslo a\nsub-03 n/a b\n")
    words = {} if theirs == "site" else {"site": theirs}
    assert scan_folder(tmp_path, columns=words)["site"].tolist() == ["", "Oslo", ""]
    found = scan_folder(tmp_path, columns=words, keep=[("site", "na")])
    assert found["site"].tolist() == ["site-NA", "Oslo", ""]
    assert found["group"].tolist() == ["", "a", "b"]
    assert "a name that reads as missing is written as site-NA" in notes(found)
    cohort = Cohort.read(write_manifest(found, tmp_path / "m.csv"))
    assert cohort.levels("site") == ["Oslo", "site-NA"]
    with pytest.raises(ManifestError, match="has no column 'scanner', of which --keep speaks"):
        scan_folder(tmp_path, keep=[("scanner", "NA")])


def test_other_files_than_tables_are_refused(tmp_path: Path):
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ManifestError, match=r"tables are read from \.tsv or \.csv"):
        read_table(tmp_path / "t.xlsx")
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(ManifestError, match="is an Excel workbook"):
        read_table(tmp_path / "t.csv")


def test_words_are_kept_in_those_of_several_tables_that_have_the_column(tmp_path: Path):
    one, other = bids(tmp_path / "a", "01"), bids(tmp_path / "b", "01")
    table(one, "participant_id site\nsub-01 NA\n")
    table(other, "participant_id age\nsub-01 30\n")
    assert scan_folder([one, other], keep=[("site", "NA")])["site"].tolist() == ["site-NA", "b"]
    (one / "participants.tsv").unlink()
    with pytest.raises(ManifestError, match="has no participants table, of which --keep speaks"):
        scan_folder(one, keep=[("site", "NA")])
