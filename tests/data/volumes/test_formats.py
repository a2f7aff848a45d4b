"""NIfTI headers as scanners and tools write them: extensions, offsets, units; files that are not what they seem."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.data.checks.files import examine
from medssl.data.volumes.formats import nifti_header, stored_nifti
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError

AFFINE = np.array([[2.0, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, -30], [0, 0, 0, 1]])
DATA = np.random.default_rng(0).integers(1, 900, (5, 6, 7)).astype(np.int16)
KINDS = [(kind, order) for kind in (nib.Nifti1Header, nib.Nifti2Header) for order in "<>"]
XML = (4, b"<?xml version='1.0' ?><AFNI_attributes>" + b"x" * 2499)  # as in a public copy of IXI
LISTS = {
    "afni": [XML],
    "freesurfer": [(14, b"F" * 3900)],
    "dcmstack": [(0, b'{"global": {}}' + b" " * 70_000)],
    "several": [XML, (6, b"a comment"), (44, b"m" * 555), (6, b"")],
    "beyond-the-walk": [(4, b"x" * (3 << 20))],
    "none": [],
}


def extension(order: str, code: int, content: bytes, size: int | None = None, step: int = 16) -> bytes:
    """One extension, padded with zeros to a multiple of ``step``; ``size`` states another one."""
    content += b"\0" * (-(8 + len(content)) % step)
    return struct.pack(f"{order}ii", 8 + len(content) if size is None else size, code) + content


def nifti(
    kind=nib.Nifti1Header, order="<", extensions=b"", offset: float | None = None, affine=AFFINE, units=2, magic=None
) -> bytes:
    """A file of ``DATA`` by hand: header, extender, extensions, voxels; ``offset`` is only stated."""
    header = kind(endianness=order)
    header.set_data_shape(DATA.shape)
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(order))
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header["xyzt_units"] = units
    header["vox_offset"] = kind.sizeof_hdr + 4 + len(extensions) if offset is None else offset
    header["magic"] = header.single_magic if magic is None else magic
    extender = b"\1\0\0\0" if extensions else b"\0\0\0\0"
    return header.binaryblock + extender + extensions + DATA.astype(f"{order}i2").tobytes(order="F")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def refused(path: Path) -> str:
    """What is said of a file by the reader, the header check and the cohort's check, which all refuse it."""
    said = []
    for read in (read_volume, read_header):
        with pytest.raises(VolumeError) as caught:
            read(path)
        said.append(str(caught.value))
        assert str(path) in said[-1]
        assert "\n" not in said[-1]
    assert said[0] == said[1]
    assert examine((str(path), False)).code
    return said[0]


@pytest.mark.oddity("header-extensions")
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(("kind", "order"), KINDS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("file", ["a.nii", "a.nii.gz"])
def test_extensions_of_any_length_are_read_over(tmp_path, file, kind, order, name):
    blocks = b"".join(extension(order, *one) for one in LISTS[name])
    path = written(tmp_path / file, nifti(kind, order, blocks))
    for reader in ("auto", "sitk") if kind is nib.Nifti1Header else ("auto",):  # SimpleITK knows NIfTI-1 alone
        np.testing.assert_array_equal(read_volume(path, reader).data[0], DATA)
    header = read_header(path)
    assert header.shape == DATA.shape
    assert header.offset == kind.sizeof_hdr + 4 + len(blocks)
    np.testing.assert_array_equal(stored_nifti(path), DATA)
    np.testing.assert_array_equal(nib.load(path).dataobj, DATA)
    for deep in (False, True):
        facts = examine((str(path), deep))
        assert (facts.code, facts.text) == ("", "")
        assert bool(facts.content) is deep, "a header check that has to read the voxels is not cheap"


@pytest.mark.oddity("header-extensions")
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("suffix", [".img", ".img.gz"])
def test_extensions_of_a_detached_pair_are_read_over_from_either_file(tmp_path, kind, suffix):
    image = kind(DATA, AFFINE)
    for one in LISTS["several"]:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(*one))
    nib.save(image, tmp_path / f"a{suffix}")
    for name in (f"a{suffix}", f"a{suffix.replace('img', 'hdr')}"):
        path = tmp_path / name
        np.testing.assert_array_equal(read_volume(path).data[0], DATA)
        facts = examine((str(path), False))
        assert (facts.code, facts.content, facts.shape) == ("", "", DATA.shape)


@pytest.mark.parametrize("lengths", [(2499,), (3 << 20, 2499), (1 << 14, 3 << 20, 3 << 20, 500)], ids=["xml", "2", "4"])
def test_a_header_check_unpacks_the_header_and_at_most_a_mebibyte_of_extensions(tmp_path, monkeypatch, lengths):
    noise = np.random.default_rng(0).bytes(16_000_000)
    blocks = b"".join(extension("<", 4, noise[:length]) for length in lengths)
    header = nib.Nifti1Header()
    header.set_data_shape((200, 200, 200))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 352 + len(blocks)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + b"\1\0\0\0" + blocks + noise, 1))
    read = [0]
    plain = gzip._GzipReader.read  # type: ignore[attr-defined]

    def counted(self, size=-1):
        out = plain(self, size)
        read[0] += len(out)
        return out

    monkeypatch.setattr(gzip._GzipReader, "read", counted)
    facts = examine((str(path), False))
    assert (facts.code, facts.content) == ("", "")
    assert 0 < read[0] < 1 << 20, f"{read[0]} bytes were unpacked"


@pytest.mark.oddity("torn-extension")
@pytest.mark.parametrize(("kind", "order"), KINDS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("file", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("size", [4, -16, 7, 100_000, 2**31 - 1])
def test_an_extension_of_an_impossible_size_is_refused(tmp_path, file, kind, order, size):
    path = written(tmp_path / file, nifti(kind, order, extension(order, *XML, size=size)))
    assert f"a header extension of {size} bytes" in refused(path)


@pytest.mark.oddity("torn-extension")
@pytest.mark.parametrize("file", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kept", [356, 600, 1000])
def test_a_file_that_ends_in_its_extensions_is_refused_as_truncated(tmp_path, file, kept):
    blocks = extension("<", 6, b"a comment") + extension("<", *XML)
    content = nifti(extensions=blocks)[:kept]
    path = written(tmp_path / file, content)
    with pytest.raises(VolumeError, match="truncated"):
        read_volume(path)
    assert examine((str(path), False)).code == "truncated"
    whole = gzip.compress(nifti(extensions=extension("<", 6, np.random.default_rng(0).bytes(50_000))))
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(whole[:9000])
    assert examine((str(torn), False)).code == "truncated"


@pytest.mark.oddity("odd-extension")
@pytest.mark.parametrize("file", ["a.nii", "a.nii.gz"])
def test_sizes_against_the_standard_and_padding_are_read_as_others_read_them(tmp_path, file):
    odd = extension("<", 6, b"ab", step=1) + extension("<", *XML, step=1)
    assert len(odd) % 16
    padded = extension("<", *XML) + b"\0" * 1000
    for blocks in (odd, padded, b"\0" * 64):
        path = written(tmp_path / file, nifti(extensions=blocks))
        np.testing.assert_array_equal(read_volume(path).data[0], DATA)
        np.testing.assert_array_equal(stored_nifti(path), DATA)
        assert examine((str(path), False)).code == ""


@pytest.mark.oddity("voxel-offset")
def test_an_offset_of_zero_means_behind_the_header_and_one_inside_it_is_refused(tmp_path):
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        path = written(tmp_path / "a.nii.gz", nifti(kind, offset=0))
        np.testing.assert_array_equal(read_volume(path).data[0], DATA)
        assert examine((str(path), False)) == examine((str(path), False))
        assert nifti_header(path).get_data_offset() == kind.sizeof_hdr + 4
    for offset in (16, -352, np.nan, np.inf):
        assert "vox_offset" in refused(written(tmp_path / "a.nii", nifti(offset=offset)))
    assert "truncated" in examine((str(written(tmp_path / "a.nii", nifti(offset=2e9))), False)).code


@pytest.mark.oddity("units")
@pytest.mark.parametrize("reader", ["auto", "sitk"])
@pytest.mark.parametrize("file", ["a.nii", "a.nii.gz", "a.img"])
@pytest.mark.parametrize(
    ("code", "stored", "factor", "word"),
    [(1, 1e-3, 1e3, "metres"), (3, 1e3, 1e-3, "micrometres"), (2, 1, 1, ""), (0, 1, 1, ""), (7, 1, 1, "")],
)
@pytest.mark.parametrize("time", [0, 8])
def test_units_other_than_mm_are_converted_and_said(tmp_path, file, code, stored, factor, word, reader, time):
    affine = np.diag([stored, stored, stored, 1]) @ AFFINE
    if file == "a.img":
        image = nib.Nifti1Pair(DATA, None)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        image.header["xyzt_units"] = code + time
        nib.save(image, tmp_path / file)
        path = tmp_path / file
    else:
        path = written(tmp_path / file, nifti(affine=affine, units=code + time))
    volume, header = read_volume(path, reader), read_header(path)
    for found in (volume.affine, header.affine, header.sform, header.qform):
        np.testing.assert_allclose(found, AFFINE, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(volume.spacing, [2, 3, 4], rtol=1e-5)
    np.testing.assert_allclose(header.spacing, [2, 3, 4], rtol=1e-5)
    assert header.form_conflict < 1e-3
    facts = examine((str(path), False))
    assert (word in facts.units) if word else facts.units == ""
    assert ("2 x 3 x 4 mm" in facts.units) is bool(word)


@pytest.mark.oddity("wrong-units")
@pytest.mark.parametrize("reader", ["auto", "sitk"])
@pytest.mark.parametrize("code", [1, 3])
def test_a_unit_that_would_make_voxels_impossible_is_not_believed(tmp_path, code, reader):
    path = written(tmp_path / "a.nii.gz", nifti(units=code))
    np.testing.assert_allclose(read_volume(path, reader).affine, AFFINE)
    np.testing.assert_allclose(read_header(path).spacing, [2, 3, 4])
    assert "taken as mm" in examine((str(path), False)).units


@pytest.mark.oddity("dot-file")
def test_a_hidden_file_is_refused_by_name(tmp_path):
    path = written(tmp_path / "._sub-01_T1w.nii.gz", nifti())
    assert "macOS" in refused(path)


@pytest.mark.oddity("folder-like-image")
def test_a_folder_is_refused_by_name(tmp_path):
    path = tmp_path / "sub-01_T1w.nii.gz"
    path.mkdir()
    assert "only named like one" in refused(path)


@pytest.mark.oddity("half-a-pair")
@pytest.mark.parametrize(("given", "lost"), [("a.img", "a.hdr"), ("a.hdr", "a.img"), ("A.IMG", "A.HDR")])
def test_half_a_pair_says_which_file_is_lost(tmp_path, given, lost):
    nib.save(nib.Nifti1Pair(DATA, AFFINE), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        (tmp_path / name).rename(tmp_path / ("X" + name))
        if name == given.lower():
            (tmp_path / ("X" + name)).rename(tmp_path / given)
    assert f"{tmp_path / lost}, does not exist" in refused(tmp_path / given)
    (tmp_path / lost).symlink_to(".git/annex/objects/xx/MD5E-s1--00.img")
    assert f"datalad get {tmp_path / lost}" in refused(tmp_path / given)


def test_what_is_mended_in_a_header_is_not_printed_file_by_file(tmp_path, caplog, capfd):
    content = bytearray(nib.Nifti1Image(np.ones((3, 4, 5), np.float32), None).to_bytes())
    content[80:84] = struct.pack("<f", -2.0)  # pixdim[1]
    content[252:256] = bytes(4)  # neither form is set
    (tmp_path / "a.nii").write_bytes(content)
    assert read_header(tmp_path / "a.nii").spacing[0] == 2
    assert read_volume(tmp_path / "a.nii").data.shape == (1, 3, 4, 5)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
