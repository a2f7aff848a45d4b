"""Every field of every header, replaced by what it must not hold: a scan or one sentence, within bounded memory."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medssl.data.checks.files import FileFacts, _examined
from medssl.data.volumes.reference import Stamps, stamp
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import UserError, VolumeError

DATA = np.random.default_rng(0).integers(1, 900, (5, 6, 7)).astype(np.int16)
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
MOST = 48 << 20
"""Bytes that may be allocated for a file of 1 kB."""
NUMBERS = (0, 1, -1, 2, 8, 255, 348, 3_000, 30_000, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
REALS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, -1e30, 352.5, 2e9, float("nan"), float("inf"), float("-inf"))
WORDS = (b"", b"\0" * 8, b"n+1\0", b"ni1\0", b"\xff" * 8, b"n+2\0\r\n\x1a\n")


def values_for(dtype: np.dtype) -> list[object]:
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return sorted({min(max(value, int(info.min)), int(info.max)) for value in NUMBERS})
    return list(REALS) if dtype.kind == "f" else list(WORDS)


def headers(kind: type[nib.Nifti1Header], order: str) -> Iterator[tuple[str, bytes]]:
    """A file of this kind and byte order for every field, place in it and value."""
    image = (nib.Nifti1Image if kind is nib.Nifti1Header else nib.Nifti2Image)(DATA, AFFINE)
    image.header.set_data_offset(kind.single_vox_offset)
    whole = image.header.as_byteswapped(order)
    body = bytes(kind.single_vox_offset - kind.sizeof_hdr) + DATA.astype(f"{order}i2").tobytes("F")
    for name in whole.template_dtype.names:
        field = whole.structarr[name]
        places = [None] if not field.shape else sorted({0, 1, 3, field.size - 1} & set(range(field.size)))
        for place, value in itertools.product(places, values_for(field.dtype)):
            changed = whole.copy()
            if place is None:
                changed.structarr[name] = value
            else:
                changed.structarr[name][place] = value
            yield f"{name}[{place}] = {value!r}", changed.binaryblock + body


def looks(path: Path) -> list[str]:
    """What is said of a file by whatever reads one; anything but one sentence about it fails."""
    stamp(path, Stamps())
    reads = (read_header, read_volume, partial(_examined, deep=False), partial(_examined, deep=True))
    return [words for read in reads if (words := _words(read, path))]


def _words(read: Callable[[Path], object], path: Path) -> str:
    try:
        found = read(path)
    except UserError as error:
        return str(error)
    return f"{path} {found.text}" if isinstance(found, FileFacts) and found.code else ""


def judged(path: Path, contents: Iterator[tuple[str, bytes]], packed: bool) -> int:
    """Look at every content under one name; how many sentences there were."""
    sentences = 0
    tracemalloc.start()
    try:
        for what, content in contents:
            path.write_bytes(gzip.compress(content, 1) if packed else content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            said = looks(path)
            assert tracemalloc.get_traced_memory()[1] - before < MOST, what
            for words in said:
                assert str(path) in words, what
                assert "\n" not in words, what
                assert "Traceback" not in words, what
                assert "rror(" not in words, what
            sentences += len(said)
    finally:
        tracemalloc.stop()
    return sentences


@pytest.mark.oddity("impossible-field")
@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_every_field_of_nifti_holds_what_it_must_not(tmp_path, kind, order, packed, every):
    first = 7 * packed + 11 * (order == "<") + 3 * (kind is nib.Nifti2Header)  # every case tries others
    contents = itertools.islice(headers(kind, order), first % every, None, every)
    assert judged(tmp_path / ("scan.nii.gz" if packed else "scan.nii"), contents, packed) >= (50 if every == 1 else 1)


@pytest.mark.oddity("impossible-field")
@pytest.mark.parametrize("axes", [0, 8, -3, 2**15 - 1])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_a_number_of_axes_that_is_none_is_named(tmp_path, kind, order, axes):
    whole = kind().as_byteswapped(order)
    whole.set_data_offset(kind.single_vox_offset)
    whole.structarr["dim"][0] = axes
    (tmp_path / "scan.nii").write_bytes(whole.binaryblock + bytes(1000))
    for read in (read_header, read_volume):
        words = _words(read, tmp_path / "scan.nii")
        assert not words if axes == 0 and read is read_header else f"{axes} axes" in words or "shape" in words


def lines(content: bytes, mark: bytes) -> Iterator[tuple[str, bytes]]:
    """A file for every line of a header of text and every value behind its colon or sign of equality."""
    end = content.index(b"\n\n") if mark == b": " else content.index(b"LOCAL")
    head = content[:end].split(b"\n")
    for k, line in enumerate(head):
        key, found, _ = line.partition(mark)
        for value in (
            b"",
            b"0",
            b"-1",
            b"nan",
            b"30000 30000 30000",
            b"3",
            b"99999999999999999999",
            b"x" * 300,
            b"none",
        ):
            changed = [*head[:k], key + found + value, *head[k + 1 :]]
            yield f"{line!r} = {value!r}", b"\n".join(changed) + content[end:]
        yield f"without {line!r}", b"\n".join([*head[:k], *head[k + 1 :]]) + content[end:]


@pytest.mark.oddity("impossible-field")
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("suffix", "mark"), [(".nrrd", b": "), (".mha", b" = ")])
def test_every_line_of_a_header_of_text_holds_what_it_must_not(tmp_path, suffix, mark, every):
    image = sitk.GetImageFromArray(DATA.transpose(2, 1, 0))
    sitk.WriteImage(image, str(tmp_path / f"good{suffix}"))
    contents = itertools.islice(lines((tmp_path / f"good{suffix}").read_bytes(), mark), 2, None, every)
    assert judged(tmp_path / f"scan{suffix}", contents, False) > 10


@pytest.mark.oddity("impossible-field")
@pytest.mark.parametrize("axes", ["-1", "0", "", "30000 30000", "99999999999999999999", "nan"])
def test_a_number_of_axes_that_takes_the_library_down_is_refused_before_it_is_asked(tmp_path, axes):
    head = f"ObjectType = Image\nNDims = {axes}\nDimSize = 5 6 7\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "scan.mha").write_bytes(head.encode() + DATA.tobytes())
    with pytest.raises(VolumeError, match=r"states .* axes \(NDims\), but a file has 1 to 7"):
        read_header(tmp_path / "scan.mha")


@pytest.mark.oddity("impossible-field")
def test_every_header_of_npy_holds_what_it_must_not(tmp_path):
    def contents() -> Iterator[tuple[str, bytes]]:
        shapes = ["()", "(0, 3, 3)", "(5, 6, 7)", "(-5, 6, 7)", "(30000, 30000, 30000)", "(2**63,)", "5", "(5.0, 6, 7)"]
        for descr, shape in itertools.product(["<i2", "|O", "<U4", "<c8", ">f8", "x", "V2", "<M8[s]"], shapes):
            head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
            yield (
                f"{descr} {shape}",
                b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(420),
            )

    assert judged(tmp_path / "scan.npy", contents(), False) > 100


@pytest.mark.oddity("gzip-bomb")
def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    image = nib.Nifti1Image(DATA, AFFINE)
    bomb = gzip.compress(image.to_bytes() + bytes(200 << 20), 1)
    assert judged(tmp_path / "scan.nii.gz", iter([("bomb", bomb)]), False) == 3
