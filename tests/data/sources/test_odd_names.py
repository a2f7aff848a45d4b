"""Names of files as no one would choose them: read back as they are, or left out in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder, write_manifest
from medssl.data.sources.found import NoImages
from medssl.errors import ManifestError

READ_BACK = [
    b'a"b', b'"', b'""', b"a'b", b"a,b", b"a;b", b"=1+1", b"+x", b"-x", b"@x", b" lead", b"trail ", b"a#vbm@3", b"a#b",
    b"NA", b"nan", b"None", b"-", b"a\\b", b"a|mask=b", b"x" * 240, "\U0001f9e0".encode(), "\u202egnp".encode(),
    "Rene\u0301".encode(), "a\u2028b".encode(), "\u00a0x".encode(), b"%s", b"{x}", b"[b]x", b"~", b"$HOME", b"a:b",
]  # fmt: skip
LEFT_OUT = [b"\xff", b"a\rb", b"a\nb", b"a\tb", b"a\x1b[31mb", b"\x07", b"a\x0bb", "a\u0085b".encode(), b"\xed\xa0\x80"]


def made(folder: Path, name: bytes, layout: str) -> Path:
    """A folder with an image of this name beside a plain one."""
    for label in (name, b"ok"):
        sub = b"sub-" + label
        path = os.fsencode(folder) + (b"/%b/anat/%b_T1w.nii" % (sub, sub) if layout == "bids" else b"/%b.nii" % label)
        if len(os.path.basename(path)) > 255:
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(b"scan")
    if layout == "flat":
        (folder / "participants.tsv").write_text("participant_id\tage\nok\t30\n")
    return folder


@pytest.mark.oddity("odd-file-name")
@pytest.mark.parametrize("layout", ["plain", "flat", "bids"])
@pytest.mark.parametrize("name", READ_BACK)
def test_an_odd_name_is_written_so_that_it_is_read_back(tmp_path: Path, name: bytes, layout: str):
    scans = made(tmp_path / "scans", name, layout)
    found = scan_folder(scans)
    assert len(found) == 2
    for place in (tmp_path / "m.csv", tmp_path / "m.tsv", scans / "inside.csv"):
        read = Cohort.read(write_manifest(found, place)).table
        assert [os.path.realpath(image) for image in read["image"]] == found["image"].map(os.path.realpath).tolist()
        for column in set(found) - {"image", "age"}:
            assert read[column].tolist() == found[column].tolist()
        cells = pd.read_csv(place, dtype=str, sep=None, engine="python", keep_default_na=False)
        assert not cells.map(lambda cell: cell.startswith(("=", "+", "-", "@"))).any(axis=None)


@pytest.mark.oddity("name-that-no-table-holds")
@pytest.mark.parametrize("layout", ["plain", "flat", "bids"])
@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_name_that_no_table_can_hold_is_left_out_and_said(tmp_path: Path, name: bytes, layout: str):
    found = scan_folder(made(tmp_path / "scans", name, layout))
    assert [Path(image).name in ("ok.nii", "sub-ok_T1w.nii") for image in found["image"]] == [True]
    (note,) = (text for text in found.attrs["notes"] if "left out, whose names hold" in text)
    assert note.startswith("1 image left out, whose names hold control characters or bytes that are no text")
    assert note.isprintable()
    assert len(Cohort.read(write_manifest(found, tmp_path / "m.csv")).table) == 1


@pytest.mark.oddity("name-that-no-table-holds")
def test_a_folder_of_such_names_alone_and_above_a_manifest_are_refused(tmp_path: Path):
    scans = made(tmp_path / "scans", b"\xff", "plain")
    (scans / "ok.nii").unlink()
    with pytest.raises(NoImages, match=r"there are only images whose names hold .*: \\xff\.nii$"):
        scan_folder(scans)
    above = made(tmp_path / os.fsdecode(b"above-\xfe"), b"fine", "plain")
    with pytest.raises(
        ManifestError, match=r"image would be 'above-\\xfe/fine.nii', which holds bytes that are no text"
    ):
        write_manifest(scan_folder(above), tmp_path / "m.csv")


@pytest.mark.oddity("carriage-return-in-a-cell")
def test_a_carriage_return_in_a_cell_stays_in_its_cell(tmp_path: Path):
    table = pd.DataFrame(
        {
            "participant_id": ["a", "b"],
            "image": [f"{tmp_path}/a.nii", f"{tmp_path}/b.nii"],
            "note": ["one\rtwo", 'x\r\n"y"\nz'],
        }
    )
    read = Cohort.read(write_manifest(table, tmp_path / "m.csv")).table
    assert read["note"].tolist() == table["note"].tolist()
    assert (tmp_path / "m.csv").read_bytes().startswith(b"participant_id,image,note\na,a.nii,")


@pytest.mark.oddity("name-that-no-table-holds")
def test_such_names_reach_a_terminal_spelled_out(tmp_path: Path):
    made(tmp_path / "scans", b"a\x1b[2Jb\xff", "plain")
    for command in (["scan", "scans", "-o", "m.csv"], ["check", os.fsdecode(b"none\x1b[2J\xff.csv")]):
        done = subprocess.run(
            [sys.executable, "-m", "medssl", "cohort", *command],
            cwd=tmp_path, capture_output=True, timeout=120, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        told = (done.stdout + done.stderr).decode("utf-8")
        assert rb"\x1b[2J".decode() in told
        assert "\x1b" not in told
        assert r"\xff" in told
        assert "Traceback" not in told
        assert "nexpected" not in told
