"""Voxels of MetaImage and NRRD: what SimpleITK writes is read, and one damaged byte is enough to be refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medssl.data.volumes.stored_voxels import TEXT_HEADERS, refuse_damaged, text_header
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError

TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def written(path: Path, kind: str = "float32", packed: bool = True) -> np.ndarray:
    """Write an oblique scan with SimpleITK, as programs do that came from DICOM or NIfTI; its voxels (Z, Y, X)."""
    data = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(kind)
    image = sitk.GetImageFromArray(data)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetDirection(TURN)
    image.SetOrigin((-1.5, 20.0, 3.0))
    image.SetMetaData("0010|0010", "somebody")
    image.SetMetaData("dim[0]", "3")
    sitk.WriteImage(image, str(path), packed)
    return data


@pytest.mark.oddity("every-format")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "float32", "float64", "int64"])
@pytest.mark.parametrize("suffix", TEXT_HEADERS)
def test_what_simpleitk_writes_is_read_with_its_geometry(tmp_path, suffix, kind, packed):
    data = written(tmp_path / f"x{suffix}", kind, packed)
    volume, header = read_volume(tmp_path / f"x{suffix}"), read_header(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(np.sort(volume.data, axis=None), np.sort(data, axis=None).astype("f4"))
    assert header.shape == (7, 6, 5)
    expected = np.diag([-1.0, -1.0, 1.0]) @ np.reshape(TURN, (3, 3)) @ np.diag([1.5, 2.0, 3.0])
    np.testing.assert_allclose(header.affine[:3, :3], expected, atol=1e-6)
    np.testing.assert_allclose(header.affine[:3, 3], [1.5, -20.0, 3.0])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", TEXT_HEADERS)
def test_channels_and_a_fourth_axis_of_one_are_read(tmp_path, suffix, packed):
    data = np.random.default_rng(0).random((5, 6, 7, 3)).astype("f4")
    sitk.WriteImage(sitk.GetImageFromArray(data, isVector=True), str(tmp_path / f"x{suffix}"), packed)
    assert read_volume(tmp_path / f"x{suffix}").data.shape == (3, 7, 6, 5)
    four = sitk.GetImageFromArray(data[None, ..., 0], isVector=False)
    sitk.WriteImage(four, str(tmp_path / f"y{suffix}"), packed)
    assert read_volume(tmp_path / f"y{suffix}").data.shape == (1, 7, 6, 5)


@pytest.mark.oddity("damaged-voxels")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", TEXT_HEADERS)
def test_voxels_cut_short_or_continued_are_refused(tmp_path, suffix, packed):
    path = tmp_path / f"x{suffix}"
    written(path, packed=packed)
    file = text_header(path).voxels
    content = file.read_bytes()
    assert refuse_damaged(path) == 840
    for less in (1, 100):
        file.write_bytes(content[:-less])
        with pytest.raises(VolumeError, match=r"is truncated \("):
            read_volume(path)
    if not (packed and suffix in (".nrrd", ".nhdr")):  # zeros behind a gzip stream are padding
        file.write_bytes(content + b"\0\0")
        with pytest.raises(VolumeError, match=r"has \d+ bytes of packed|holds 842 bytes of voxels, but"):
            read_volume(path)


@pytest.mark.oddity("damaged-voxels")
@pytest.mark.parametrize("suffix", TEXT_HEADERS)
def test_one_flipped_bit_of_packed_voxels_is_refused_wherever_it_is(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    written(path)
    header = text_header(path)
    content, start = header.voxels.read_bytes(), header.offset or 0
    first = 10 if header.packed == "gzip" else 0  # a gzip header has bytes of no consequence
    for place in np.linspace(start + first, len(content) - 1, 40).astype(int):
        bad = bytearray(content)
        bad[place] ^= 16
        header.voxels.write_bytes(bad)
        with pytest.raises(VolumeError, match=r"is truncated|packed voxels are damaged|bytes of voxels"):
            read_volume(path)


@pytest.mark.oddity("damaged-voxels")
@pytest.mark.parametrize("suffix", TEXT_HEADERS)
def test_a_stream_that_unpacks_to_another_number_of_voxels_is_refused(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    written(path)
    header = path.read_bytes()
    for sizes, says in ((b"7 6 6", r"is truncated \(840 of 1008 bytes"), (b"7 6 4", r"holds more than 672 bytes")):
        path.write_bytes(re.sub(rb"7 6 5", sizes, header, count=1))
        with pytest.raises(VolumeError, match=says):
            read_volume(path)
    path.write_bytes(re.sub(rb"7 6 5", b"7000 6000 5000", header, count=1))
    with pytest.raises(VolumeError, match=r"is truncated \(\d+ bytes for 840000000000 bytes of voxels\)"):
        read_volume(path)


def test_bytes_behind_the_end_of_a_stream_are_refused_where_the_header_counts_them(tmp_path):
    path = tmp_path / "x.mha"
    written(path)
    size = text_header(path).packed_bytes
    path.write_bytes(path.read_bytes().replace(b"Size = %d" % size, b"Size = %d" % (size + 2)) + b"\0\0")
    with pytest.raises(VolumeError, match="packed voxels are damaged"):
        read_volume(path)


def test_a_header_that_the_library_reads_otherwise_is_refused(tmp_path, monkeypatch):
    written(tmp_path / "x.mha")
    other = sitk.GetImageFromArray(np.zeros((5, 6, 8), "f4"))
    monkeypatch.setattr(sitk, "ReadImage", lambda *_, **__: other)
    with pytest.raises(VolumeError, match="can be read in two ways"):
        read_volume(tmp_path / "x.mha")
