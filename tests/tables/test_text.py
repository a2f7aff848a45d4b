from __future__ import annotations

import os
from pathlib import Path

import pytest

from medssl.errors import ManifestError
from medssl.tables.text import read_cells


def table(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


ROWS = [["01", "62.5", "Köln"], ["02", "", "a b"]]
PLAIN = "id,age,site\n01,62.5,Köln\n02,,a b\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", PLAIN.encode(), ""),
        ("a.csv", PLAIN.encode("utf-8-sig"), ""),
        ("a.csv", PLAIN.encode("utf-16"), "UTF-16"),
        ("a.csv", PLAIN.encode("utf-16-le"), "UTF-16"),
        ("a.csv", PLAIN.encode("utf-16-be"), "UTF-16"),
        ("a.csv", PLAIN.encode("latin-1"), "Windows"),
        ("a.csv", PLAIN.replace("\n", "\r\n").encode(), ""),
        ("a.csv", PLAIN.replace("\n", "\r").encode(), ""),
        ("a.csv", PLAIN.replace(",", ";").encode(), "semicolons"),
        ("a.csv", PLAIN.replace(",", "\t").encode(), "tabs"),
        ("a.tsv", PLAIN.replace(",", "\t").encode(), ""),
        ("a.tsv", PLAIN.encode(), "commas"),
        ("a.csv", PLAIN.replace("\n", "\n\n").encode(), ""),
        ("a.csv", PLAIN.replace("a b", '"a b"').encode(), ""),
        ("a.csv", PLAIN.replace("\n", ",,\n").encode(), ""),
    ],
)
def test_one_table_in_many_forms(tmp_path, name, content, said):
    notes: list[str] = []
    cells = read_cells(table(tmp_path / name, content), notes)
    assert cells.header == ["id", "age", "site"]
    assert cells.rows == ROWS
    assert said in " ".join(notes)
    assert bool(notes) == bool(said)


def test_blanks_in_place_of_tabs_are_said_and_ragged_ones_refused_by_row(tmp_path):
    notes: list[str] = []
    cells = read_cells(table(tmp_path / "a.tsv", "id  age site\n01 62.5   X\n02 40 Y\n"), notes)
    assert cells.rows == [["01", "62.5", "X"], ["02", "40", "Y"]]
    assert "blanks" in notes[0]
    with pytest.raises(ManifestError, match=r"row 3 \(02\): has 2 cells, but the header names 3"):
        read_cells(table(tmp_path / "b.tsv", "id age site\n01 62.5 X\n02 Y\n03 4 Z\n"))


def test_decimal_commas_in_a_semicolon_table_stay_in_their_cells(tmp_path):
    cells = read_cells(table(tmp_path / "a.csv", "id;age;iq\n1;62,5;101,5\n"))
    assert cells.rows == [["1", "62,5", "101,5"]]


def test_line_numbers_are_those_of_the_file(tmp_path):
    content = 'id,note\n\n1,"two\nlines"\n2,x\n'
    assert read_cells(table(tmp_path / "a.csv", content)).lines == [3, 5]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"  \n \n", "is empty"),
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"id,age\n\x00\x01\x02\x03", "not a text file"),
        (b"sep=;\nid;age\n1;2\n", "row 1 is Excel's mark"),
        (b"id,age\n1,2,3\n", r"row 2 \(1\): has 3 cells"),
        (b"id,age,age\n1,2,3\n", 'the column "age" twice'),
        (b"id,,age\n1,2,3\n", "a column without a name"),
        (b'id,age\n1,"2\n3,4\n5,6\n', "row 2 opens a quote that is never closed"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, content, told):
    with pytest.raises(ManifestError, match=told) as caught:
        read_cells(table(tmp_path / "a.csv", content))
    assert str(tmp_path / "a.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_row_numbers_of_a_spreadsheet_are_dropped(tmp_path):
    assert read_cells(table(tmp_path / "a.csv", ",id,age\n0,a,1\n1,b,2\n")).header == ["id", "age"]
    assert read_cells(table(tmp_path / "b.csv", "Unnamed: 0,id\n0,a\n")).rows == [["a"]]


def test_absent_files_folders_and_pointers(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        read_cells(tmp_path / "no.csv")
    with pytest.raises(ManifestError, match="is a folder"):
        read_cells(tmp_path)
    link = tmp_path / "participants.tsv"
    link.symlink_to("../.git/annex/objects/xx/yy/key")
    with pytest.raises(ManifestError, match="datalad get"):
        read_cells(link)


def test_a_wide_header_of_semicolons_with_commas_in_names(tmp_path):
    cells = read_cells(table(tmp_path / "a.csv", 'id;"age, years";site\n1;2;3\n'))
    assert cells.header == ["id", "age, years", "site"]


@pytest.mark.oddity("stray-quote")
def test_a_stray_quote_never_swallows_rows_and_a_note_over_lines_stays_a_note(tmp_path):
    rows = 'id\tnote\tage\nsub-01\t"left\t30\nsub-02\tok\t40\nsub-03\tright"\t50\n'
    with pytest.raises(ManifestError, match="row 2 opens a quote that row 4 closes"):
        read_cells(table(tmp_path / "a.tsv", rows))
    with pytest.raises(ManifestError, match="row 2 opens a quote that row 3 closes"):
        read_cells(table(tmp_path / "b.csv", 'id,note,age\n1,"left,30\n2,right",50\n3,x,60\n'))
    cells = read_cells(table(tmp_path / "c.csv", 'id,note,age\n1,"first, then\nsecond",30\n2,"a ""b"" c",40\n'))
    assert cells.rows == [["1", "first, then\nsecond", "30"], ["2", 'a "b" c', "40"]]


def test_what_never_ends_is_not_read(tmp_path: Path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for path in (Path(os.devnull), pipe):
        with pytest.raises(ManifestError, match=f"{path} is no file; give the file of the table"):
            read_cells(path)
