"""Headers of NRRD: what every writer writes is read, and anything else is refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medssl.data.volumes.nrrd import read_nrrd
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError

HEAD = "NRRD0004\ntype: float\ndimension: 3\nsizes: 3 4 5\nencoding: raw\nendian: little\n"
VOXELS = np.arange(60, dtype="f4").tobytes()


def scan(folder: Path, header: str, voxels: bytes = VOXELS, name: str = "scan.nrrd") -> Path:
    (folder / name).write_bytes(header.encode("utf-8") + voxels)
    return folder / name


REFUSED = {
    "magic": (HEAD.replace("NRRD0004", "NRRD9") + "\n", "does not begin with NRRD0001"),
    "axes": (HEAD.replace("dimension: 3", "dimension: 99") + "\n", "states 99 axes"),
    "sizes": (HEAD.replace("3 4 5", "60") + "\n", "its 3 axes need one positive number each"),
    "negative": (HEAD.replace("3 4 5", "3 4 -5") + "\n", "which is no whole number"),
    "blocks": (HEAD.replace("float", "block") + "block size: 99999999999\n\n", "holds block values"),
    "block size": (HEAD + "block size: 9\n\n", "holds blocks of bytes"),
    "text": (HEAD.replace("raw", "ascii") + "\n", "holds its voxels as ascii"),
    "twice": (HEAD + "Dimension: 3\n\n", "states dimension twice"),
    "twice in other words": (HEAD + "data file: a.raw\ndatafile: b.raw\n", "states datafile twice"),
    "unknown": (HEAD + "datafiles: a.raw\n\n", '"datafiles: a.raw" is no field that the format has'),
    "long field": (HEAD + "units: " + "x" * 1100 + "\n\n", "has 1107 letters in its field units, more than 512"),
    "longer field": (HEAD + "labels: " + "x" * 5000 + "\n\n", "a line of 5008 letters"),
    "endless field": (HEAD + "x" * 100_000 + ": 3\n\n", "does not end within 64 KiB"),
    "comments": ("NRRD0004\n" + "# x\n" * 20_000 + HEAD[9:] + "\n", "does not end within 64 KiB"),
    "comments before a pipe": (
        "NRRD0004\n" + f"# {'x' * 1000}\n" * 70 + HEAD[9:] + "data file: pipe.raw\n",
        "does not end within 64 KiB",
    ),
    "old line ends": ((HEAD + "data file: pipe.raw\n\n").replace("\n", "\r"), "a character that is no text"),
    "tab": (HEAD + "data file:\tpipe.raw\n", "is no field that the format has"),
    "format string": (HEAD + "data file: pipe%d.raw 1 2000000000 1\n", 'names its voxels "pipe%d.raw 1 2000000000 1"'),
    "written string": (HEAD + "data file: s%s%n.raw 1 24 1\n", "they must be in one file beside it"),
    "list": (HEAD + "data file: LIST\npipe.raw\n", 'names its voxels "LIST"'),
    "standard input": (HEAD + "data file: -\n", "they must be in one file beside it"),
    "another folder": (HEAD + "data file: sub/voxels.raw\n", "they must be in one file beside it"),
    "a pipe": (HEAD + "data file: pipe.raw\n", "is a named pipe, not a file"),
    "a pipe in capitals": (HEAD + "DATA FILE: pipe.raw\n", "is a named pipe, not a file"),
    "no such file": (HEAD + "data file: gone.raw\n", "gone.raw, does not exist; copy it as well"),
    "skipped lines": (HEAD + "line skip: 99999999999\n\n", "skips 0 bytes and 99999999999 lines"),
    "skipped bytes": (HEAD + "byte skip: -5\n\n", "skips -5 bytes"),
    "directions": (HEAD + "space: RAS\nspace directions: (1e308,nan) (0,1) x\n\n", "vectors such as (1,0,0)"),
    "spacings": (HEAD + "spacings: 1 1 x\n\n", "it needs 3 decimal numbers"),
    "no end": (HEAD, "is truncated: no empty line ends its header"),
    "two places": (HEAD + "data file: voxels.raw\n\nmore", "goes on behind its header"),
}


@pytest.mark.oddity("text-header")
@pytest.mark.parametrize("case", REFUSED)
def test_a_header_that_no_writer_writes_is_refused_before_the_library_sees_it(tmp_path, case, monkeypatch):
    import SimpleITK

    monkeypatch.delattr(SimpleITK, "ReadImage")
    monkeypatch.delattr(SimpleITK, "ImageFileReader")
    header, says = REFUSED[case]
    os.mkfifo(tmp_path / "pipe.raw")
    (tmp_path / "voxels.raw").write_bytes(VOXELS)
    path = scan(tmp_path, header, VOXELS if header.endswith("\n\n") else b"")
    for read in (read_header, read_volume):
        with pytest.raises(VolumeError) as told:
            read(path)
        assert says in str(told.value)
        assert str(path) in str(told.value)
        assert "; " in str(told.value), "no remedy"
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "# a comment\ncontent: " + "x" * 2000 + "\nModality:=MR: 3 T\n0010|0010:=a b\ndata file 2:=pipe.raw\n",
        "space: left-posterior-superior\nspace directions: (1,0,0) (0,1e0,0) (0,0,-1.5)\nspace origin: (0,.5,-3)\n"
        'kinds: domain domain domain\nlabels: "a" "b" "c"\nspace units: "mm" "mm" "mm"\n',
        "spacings: 1 1 NaN\ncentering: \n".replace("centering: \n", "centers: cell cell cell\n"),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_programs_add_to_a_header_is_let_through(tmp_path, fields, ends):
    path = scan(tmp_path, (HEAD + fields + "\n").replace("\n", ends))
    if "NaN" in fields:  # a spacing that is unknown: the header passes, and the geometry is refused elsewhere or not
        assert read_nrrd(path).sizes == (3, 4, 5)
        return
    np.testing.assert_array_equal(np.sort(read_volume(path).data, axis=None), np.arange(60))
    assert read_header(path).shape == (3, 4, 5)


def test_where_the_voxels_are_is_told(tmp_path):
    (tmp_path / "my voxels.raw").write_bytes(VOXELS)
    header = read_nrrd(scan(tmp_path, HEAD + "byte skip: -1\ndata file: ./my voxels.raw\n", b""))
    assert (header.sizes, header.needed, header.offset) == ((3, 4, 5), 240, None)
    assert header.voxels == tmp_path / "my voxels.raw"
    gzip = read_nrrd(scan(tmp_path, HEAD.replace("raw", "gz").replace("float", "unsigned short") + "\n"))
    assert (gzip.packed, gzip.bytes_each, gzip.offset) == ("gzip", 2, len(HEAD) + 9)
