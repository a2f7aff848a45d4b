"""Headers of MetaImage: what every writer writes is read, and anything else is refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medssl.data.volumes.metaimage import read_metaimage
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError

SIZES = "NDims = 3\nDimSize = 3 4 5\nElementType = MET_FLOAT\n"
LOCAL = "ElementDataFile = LOCAL\n"
VOXELS = np.arange(60, dtype="f4").tobytes()


def scan(folder: Path, header: str, voxels: bytes = VOXELS, name: str = "scan.mha") -> Path:
    (folder / name).write_bytes(header.encode("utf-8") + voxels)
    return folder / name


REFUSED = {
    "axes": ("NDims = -1\nDimSize = 3 4 5\nElementType = MET_FLOAT\n" + LOCAL, "states -1 axes"),
    "axes behind a blank line": ("\n\nNDims = -1\nDimSize = 3\nElementType = MET_FLOAT\n" + LOCAL, "states -1 axes"),
    "many axes": ("NDims = 9\nDimSize = 1 1 1 1 1 1 1 1 1\nElementType = MET_FLOAT\n" + LOCAL, "but a file has 1 to 7"),
    "colon": ("NDims : -1\n" + SIZES + LOCAL, '"NDims : -1" is no line of the form key = value'),
    "colon of another key": ("a: b = 3\n" + SIZES + LOCAL, "is no line of the form key = value"),
    "twice": (SIZES + "NDims = 3\n" + LOCAL, "states NDims twice"),
    "other capitals": (
        "ndims = -1\n" + SIZES + LOCAL,
        "key ndims in its header, which the format spells NDims",
    ),
    "sizes first": ("DimSize = 3 4 5\nNDims = 3\nElementType = MET_FLOAT\n" + LOCAL, "it must come first"),
    "few sizes": (SIZES.replace("3 4 5", "60") + LOCAL, "its 3 axes need one positive number each"),
    "negative size": (SIZES.replace("3 4 5", "-3 4 5") + LOCAL, "which is no whole number"),
    "no size": (SIZES.replace("3 4 5", "0 4 5") + LOCAL, "need one positive number each"),
    "absent": ("NDims = 3\nElementType = MET_FLOAT\n" + LOCAL, "has no DimSize"),
    "strings": (SIZES.replace("FLOAT", "STRING") + LOCAL, "holds MET_STRING values"),
    "skipped bytes": (SIZES + "HeaderSize = 99999999999\n" + LOCAL, "skips 99999999999 bytes"),
    "negative skip": (SIZES + "HeaderSize = -9\n" + LOCAL, "skips -9 bytes"),
    "header per slice": (SIZES + "HeaderSizePerSlice = 9\n" + LOCAL, "in front of every slice"),
    "no channels": (SIZES + "ElementNumberOfChannels = 0\n" + LOCAL, "states 0 channels"),
    "text": (SIZES + "BinaryData = False\n" + LOCAL, "holds its voxels as text"),
    "unsure": (SIZES + "CompressedData = perhaps\n" + LOCAL, "neither True nor False"),
    "packed without a length": (SIZES + "CompressedData = True\n" + LOCAL, "CompressedDataSize"),
    "infinite spacing": (SIZES + "ElementSpacing = 1 1 nan\n" + LOCAL, "it needs 3 decimal numbers"),
    "short matrix": (SIZES + "TransformMatrix = 1 0\n" + LOCAL, "it needs 9 decimal numbers"),
    "two origins": (SIZES + "Offset = 0 0 0\nOrigin = 0 0 1\n" + LOCAL, "states Offset and Origin, which differ"),
    "old line ends": ((SIZES + LOCAL).replace("\n", "\r"), "a character that is no text"),
    "long line": ("Comment = " + "x" * 5000 + "\n" + SIZES + LOCAL, "a line of 5010 letters"),
    "long header": ("Comment = x\n" * 1 + "".join(f"k{k} = 1\n" for k in range(9000)) + SIZES + LOCAL, "64 KiB"),
    "no image": ("ObjectType = Tube\n" + SIZES + LOCAL, "is a MetaObject, but no image"),
    "format string": (SIZES + "ElementDataFile = slice%s.raw 1 24 1\n", 'names its voxels "slice%s.raw 1 24 1"'),
    "written string": (SIZES + "ElementDataFile = %n%n\n", "they must be in one file beside it"),
    "no step": (SIZES + "ElementDataFile = slice%03d.raw 1 5 0\n", "they must be in one file beside it"),
    "list": (SIZES + "ElementDataFile = LIST\nslice.raw\n", 'names its voxels "LIST"'),
    "list of planes": (SIZES + "ElementDataFile = LIST 2\nslice.raw\n", 'names its voxels "LIST 2"'),
    "another folder": (SIZES + "ElementDataFile = ../voxels.raw\n", "they must be in one file beside it"),
    "absolute path": (SIZES + "ElementDataFile = /etc/passwd\n", "they must be in one file beside it"),
    "two files": (SIZES + "ElementDataFile = pipe.raw\nElementDataFile = voxels.raw\n", "must be the last line"),
    "a pipe": (SIZES + "ElementDataFile = pipe.raw\n", "is a named pipe, not a file"),
    "a pipe behind a blank line": ("\n" + SIZES + "\nElementDataFile = pipe.raw\n", "is a named pipe, not a file"),
    "no such file": (SIZES + "ElementDataFile = gone.raw\n", "gone.raw, does not exist; copy it as well"),
}


@pytest.mark.oddity("text-header")
@pytest.mark.parametrize("case", REFUSED)
def test_a_header_that_no_writer_writes_is_refused_before_the_library_sees_it(tmp_path, case, monkeypatch):
    import SimpleITK

    monkeypatch.delattr(SimpleITK, "ReadImage")
    monkeypatch.delattr(SimpleITK, "ImageFileReader")
    header, says = REFUSED[case]
    os.mkfifo(tmp_path / "pipe.raw")
    for name in ("voxels.raw", "slice.raw"):
        (tmp_path / name).write_bytes(VOXELS)
    path = scan(tmp_path, header, VOXELS if header.endswith(LOCAL) else b"")
    for read in (read_header, read_volume):
        with pytest.raises(VolumeError) as told:
            read(path)
        assert says in str(told.value)
        assert str(path) in str(told.value)
        assert "; " in str(told.value), "no remedy"
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "entries",
    [
        "",
        "Comment =\n\n0010|0010 = somebody\ndim[0] = 3\n",
        "ObjectType = Image\nHeaderSize = -1\nElementByteOrderMSB = False\nBinaryDataByteOrderMSB = False\n",
        "Comment = %s%n = a: b\nName = Zürich\n",
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_programs_add_to_a_header_is_let_through(tmp_path, entries, ends):
    path = scan(tmp_path, (entries + SIZES + LOCAL).replace("\n", ends))
    np.testing.assert_array_equal(np.sort(read_volume(path).data, axis=None), np.arange(60))
    assert read_header(path).shape == (3, 4, 5)


def test_where_the_voxels_are_is_told(tmp_path):
    (tmp_path / "my voxels.raw").write_bytes(b"\0" * 9 + VOXELS)
    head = "NDims = 2\nDimSize = 3 20\nElementNumberOfChannels = 2\nElementType = MET_SHORT\n"
    header = read_metaimage(scan(tmp_path, head + "HeaderSize = -1\nElementDataFile = ./my voxels.raw\n", b""))
    assert (header.sizes, header.bytes_each, header.needed) == ((3, 20, 2), 2, 240)
    assert (header.voxels, header.offset, header.packed) == (tmp_path / "my voxels.raw", None, "")
    packed = "CompressedData = True\nCompressedDataSize = 7\n"
    header = read_metaimage(scan(tmp_path, SIZES + packed + LOCAL, b""))
    assert (header.offset, header.packed, header.packed_bytes) == (len(SIZES + packed + LOCAL), "zlib", 7)
