from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pytest

import medssl.data.volumes.gunzip as module
from medssl.data.volumes.volume import read_volume
from medssl.errors import VolumeError

TEXT = np.random.default_rng(0).integers(0, 4, 70_000).astype(np.uint8).tobytes()


@pytest.fixture(params=["libdeflate", "zlib"])
def unpacker(request, monkeypatch):
    if request.param == "zlib":
        monkeypatch.setattr(module, "libdeflate", None)
    else:
        pytest.importorskip("deflate")


def gunzip(packed: bytes, most: int = 1 << 24) -> bytes:
    return module.gunzip(np.frombuffer(packed, np.uint8), most).tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="the wheels of other systems may hide the library")
def test_the_library_inside_the_package_is_found():
    pytest.importorskip("deflate")
    assert module.libdeflate is not None


@pytest.mark.parametrize("text", [TEXT, b"", b"x"])
def test_what_was_packed_comes_out(unpacker, text):
    assert gunzip(gzip.compress(text)) == text


def test_several_members_are_one_file_also_where_they_are_equally_long(unpacker):
    parts = [TEXT, TEXT[::-1], TEXT[1:] + b"y"]
    assert gunzip(b"".join(map(gzip.compress, parts))) == b"".join(parts)
    assert gunzip(gzip.compress(TEXT) + gzip.compress(b"")) == TEXT


def test_zeros_behind_the_end_are_padding(unpacker):
    assert gunzip(gzip.compress(TEXT) + bytes(512)) == TEXT
    assert gunzip(gzip.compress(TEXT) + bytes(3) + gzip.compress(b"more")) == TEXT + b"more"


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 100, 20_000])
def test_a_file_that_ends_early_is_noticed(unpacker, cut):
    packed = gzip.compress(TEXT)
    with pytest.raises(EOFError):
        gunzip(packed[:-cut])


@pytest.mark.parametrize("place", [-1, -6, 40, 5000])
def test_a_changed_byte_is_noticed(unpacker, place):
    packed = bytearray(gzip.compress(TEXT))
    packed[place] ^= 0x10
    with pytest.raises((zlib.error, EOFError)):
        gunzip(bytes(packed))


def test_a_stated_size_that_cannot_be_is_not_allocated(unpacker, monkeypatch):
    packed = gzip.compress(TEXT)[:-4] + b"\xff\xff\xff\xff"
    with pytest.raises(zlib.error):
        gunzip(packed)


def test_no_more_is_unpacked_than_there_may_be(unpacker):
    assert gunzip(gzip.compress(TEXT), len(TEXT)) == TEXT
    for packed in (gzip.compress(TEXT), gzip.compress(TEXT[:-1]) + gzip.compress(b"xy")):
        with pytest.raises(OverflowError):
            gunzip(packed, len(TEXT) - 1)


@pytest.mark.parametrize("members", [1, 64])
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path, unpacker, members):
    scan = nib.Nifti1Image(np.ones((5, 6, 7), np.int16), np.eye(4)).to_bytes()
    bomb = gzip.compress(bytes((64 << 20) // members)) * members
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(scan) + bomb if members > 1 else gzip.compress(scan + bytes(64 << 20)))
    tracemalloc.start()
    with pytest.raises(
        VolumeError, match=r"bomb\.nii\.gz unpacks to more than twice the 772 bytes that its header states"
    ):
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_zeros_behind_the_voxels_are_no_bomb(tmp_path, unpacker):
    scan = nib.Nifti1Image(np.ones((5, 6, 7), np.int16), np.eye(4)).to_bytes()
    (tmp_path / "padded.nii.gz").write_bytes(gzip.compress(scan + bytes(4096)))
    assert read_volume(tmp_path / "padded.nii.gz").data.shape == (1, 5, 6, 7)


def test_a_whole_stream_of_too_few_voxels_is_truncated(tmp_path, unpacker):
    scan = nib.Nifti1Image(np.ones((5, 6, 7), np.int16), np.eye(4)).to_bytes()
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(scan[:-2]))
    with pytest.raises(VolumeError, match=r"truncated \(770 of 772 bytes\)"):
        read_volume(tmp_path / "short.nii.gz")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64, ">i2", ">f4"])
@pytest.mark.parametrize("scale", [None, (0.37, -5.5)])
@pytest.mark.parametrize("shape", [(5, 6, 7), (3, 1, 4), (4, 5, 6, 1, 3)])
def test_scans_are_scaled_and_turned_exactly_as_nibabel_does(tmp_path, kind, scale, shape):
    stored = (np.random.default_rng(1).random(shape) * 200).astype(kind)
    affine = np.array([[0, -2.0, 0, 9], [0, 0, 3, -4], [-1.5, 0, 0, 5], [0, 0, 0, 1]])
    header = nib.Nifti1Header(endianness=">" if str(kind).startswith(">") else "<")
    image = nib.Nifti1Image(stored, affine, header)
    image.header.set_data_dtype(stored.dtype)
    content = bytearray(image.to_bytes())
    if scale is not None:
        order = ">" if str(kind).startswith(">") else "<"
        content[112:120] = np.array(scale, f"{order}f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(bytes(content)))
    loaded = nib.as_closest_canonical(nib.load(tmp_path / "scan.nii.gz"))
    wanted = np.asanyarray(loaded.dataobj).astype(np.float32)
    wanted = np.moveaxis(wanted[:, :, :, 0, :], -1, 0) if wanted.ndim == 5 else wanted[None]
    volume = read_volume(tmp_path / "scan.nii.gz")
    assert volume.data.flags.c_contiguous
    np.testing.assert_array_equal(volume.data, wanted)
    np.testing.assert_array_equal(volume.affine, loaded.affine)
