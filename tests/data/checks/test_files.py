"""One look at one file: every format that is read is checked alike, and nothing odd ends the check of a cohort."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medssl.data.checks import files as check_files
from medssl.data.checks.files import _examined, examine
from medssl.data.checks.report import check
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.image_files import SUFFIXES
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
DATA = np.random.default_rng(0).integers(1, 900, (5, 6, 7)).astype(np.int16)
MINC = Path(nib.__file__).parent / "tests" / "data" / "minc1_1_scale.mnc"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
ANNEX = "/annex/objects/MD5E-s9--00.nii.gz\n"


def made(folder: Path, suffix: str, capitals: bool = False, packed: bool = False) -> Path:
    """A good scan in the format of a suffix; ``packed``: with its voxels compressed inside."""
    name = f"scan{suffix.upper() if capitals else suffix}"
    path = folder / f"made{suffix}"
    if suffix in (".nii", ".nii.gz"):
        nib.save(nib.Nifti1Image(DATA, AFFINE), path)
    elif suffix in (".mgz", ".mgh"):
        nib.save(nib.MGHImage(DATA, AFFINE), path)
    elif suffix in (".hdr", ".img", ".hdr.gz", ".img.gz"):
        nib.save(nib.Nifti1Pair(DATA, AFFINE), folder / f"made{suffix.replace('hdr', 'img')}")
        other = suffix.replace("hdr", "img") if "hdr" in suffix else suffix.replace("img", "hdr")
        other_name = f"scan{other.upper() if capitals else other}"
        (folder / f"made{other}").rename(folder / other_name)
    elif suffix == ".npy":
        np.save(path, DATA)
    elif suffix == ".mnc":
        path.write_bytes(MINC.read_bytes())
    else:
        image = sitk.GetImageFromArray(DATA.transpose(2, 1, 0))
        image.SetSpacing((2.0, 3.0, 4.0))
        if suffix in (".mhd", ".nhdr"):  # these name the file of their voxels
            sitk.WriteImage(image, str(path), packed)
        elif suffix == ".gipl.gz":
            sitk.WriteImage(image, str(folder / "made.gipl"))
            path.write_bytes(gzip.compress((folder / "made.gipl").read_bytes()))
        else:
            sitk.WriteImage(image, str(path), packed)
    path.rename(folder / name)
    return folder / name


@pytest.mark.oddity("every-format")
@pytest.mark.parametrize("capitals", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_read_by_reader_header_and_check_alike(tmp_path, suffix, packed, capitals):
    if packed and suffix not in (".nrrd", ".nhdr", ".mha", ".mhd"):
        return
    path = made(tmp_path, suffix, capitals, packed)
    if capitals and suffix == ".gipl.gz":
        with pytest.raises(VolumeError, match="in lower case"):
            read_volume(path)
        assert "in lower case" in examine((str(path), False)).text
        return
    volume, header, facts = read_volume(path), read_header(path), examine((str(path), False))
    assert facts.code == "", facts.text
    assert volume.data.shape[1:] == header.ras[0] == facts.shape
    np.testing.assert_allclose(volume.spacing, header.ras[1], rtol=1e-5)
    if suffix != ".mnc":
        np.testing.assert_array_equal(np.sort(volume.data, axis=None), np.sort(DATA, axis=None))
    cheap = not packed and suffix not in (".mhd", ".nhdr", ".mnc")
    assert not facts.content or not cheap, "the voxels were read for a look at the header"
    assert examine((str(path), True)).code == ""


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz", ".mgh", ".img", ".gipl.gz"])
def test_a_good_format_cut_short_is_truncated(tmp_path, suffix):
    path = made(tmp_path, suffix)
    path.write_bytes(path.read_bytes()[:-100])
    for deep in (False, True):
        assert examine((str(path), deep)).code == "truncated"


@pytest.mark.parametrize("suffix", [".mgh", ".mgz", ".img", ".img.gz"])
def test_a_header_that_states_more_than_its_file_can_hold_is_refused_before_memory_is_asked_for(tmp_path, suffix):
    path = made(tmp_path, suffix)
    file = path if suffix.startswith(".mg") else path.with_name(path.name.replace("made", "scan").replace("img", "hdr"))
    content = file.read_bytes()
    content = bytearray(gzip.decompress(content) if suffix.endswith(("gz", "mgz")) else content)
    if suffix.startswith(".mg"):
        content[4:16] = np.array([3_000] * 3, ">i4").tobytes()
    else:
        content[42:48] = np.array([3_000] * 3, "<i2").tobytes()
    file.write_bytes(gzip.compress(bytes(content)) if suffix.endswith(("gz", "mgz")) else bytes(content))
    with pytest.raises(VolumeError, match=r"is truncated \(\d+ of \d{11} bytes\)"):
        read_volume(path)
    assert examine((str(path), False)).code == "truncated"


@pytest.mark.oddity("every-format")
def test_a_damaged_file_whose_voxels_are_packed_inside_is_not_called_truncated_by_its_length(tmp_path):
    path = made(tmp_path, ".nrrd", packed=True)
    content = bytearray(path.read_bytes())
    content[-6:] = bytes([1, 2, 3, 4, 5, 6])
    path.write_bytes(content)
    facts = examine((str(path), True))
    assert facts.code == "unreadable", facts.text
    assert "cannot be read" in facts.text


def pointer(path: Path, kind: str) -> str:
    """Make the file at ``path`` one without content; what the message must say."""
    path.unlink()
    if kind == "annex-link":
        path.symlink_to("../.git/annex/objects/x/MD5E-s9--00.nii.gz/MD5E-s9--00.nii.gz")
        return f"datalad get {path}"
    if kind == "link":
        path.symlink_to("gone.nii.gz")
        return "is a link to gone.nii.gz, which does not exist"
    path.write_text(LFS if kind == "lfs" else ANNEX)
    return "git lfs pull" if kind == "lfs" else f"datalad get {path}"


@pytest.mark.oddity("absent-content")
@pytest.mark.parametrize("kind", ["annex-link", "link", "lfs", "annex-pointer"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz", ".img", ".nrrd", ".npy"])
def test_files_whose_content_is_not_here_are_named_with_the_command_that_fetches_them(tmp_path, suffix, kind):
    path = made(tmp_path, suffix)
    says = pointer(path, kind)
    for read in (read_volume, read_header):
        with pytest.raises(VolumeError) as caught:
            read(path)
        assert says in str(caught.value)
        assert str(caught.value).startswith(f"{path} is ")
    facts = examine((str(path), False))
    assert facts.code == "missing-file"
    assert says in facts.text
    cache = VolumeCache(tmp_path / "cache")
    with pytest.raises(VolumeError) as caught:
        cache.build([(path,)], Preprocessing(), workers=1, progress=False, where=["row 2"])
    assert says in str(caught.value)
    assert "row 2" in str(caught.value)
    assert cache.usage().entries == 0


@pytest.mark.oddity("absent-content")
def test_a_link_to_a_file_that_is_here_is_read(tmp_path):
    path = made(tmp_path, ".nii.gz")
    (tmp_path / "objects").mkdir()
    path.rename(tmp_path / "objects" / "key")
    path.symlink_to("objects/key")
    np.testing.assert_array_equal(read_volume(path).data[0], DATA)
    assert examine((str(path), True)).code == ""


@pytest.mark.oddity("absent-content")
def test_parts_of_wide_arrays_are_named_in_the_same_way(tmp_path):
    path = tmp_path / "train.npy"
    path.write_text(ANNEX)
    for look in (read_volume, read_header):
        with pytest.raises(VolumeError, match=f"datalad get {path}"):
            look(f"{path}#vbm_roi@0")
    facts = examine((f"{path}#vbm_roi@0", False))
    assert facts.code == "missing-file"
    np.save(path, np.zeros((1, 3), np.float32))
    mask = tmp_path / "mask.nii.gz"
    mask.symlink_to(".git/annex/objects/k")
    facts = examine((f"{path}#vbm@0|mask={mask}", False))
    assert facts.code == "missing-file"
    assert f"needs the mask {mask}, which is a git-annex link" in facts.text


def odd(path: Path, dims: list[int], shape: tuple[int, ...] = (5, 6)) -> None:
    """A NIfTI file whose field dim is ``dims``."""
    image = nib.Nifti1Image(np.ones(shape, np.int16), np.eye(4))
    content = bytearray(image.to_bytes())
    content[40:56] = np.array(dims + [1] * (8 - len(dims)), "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


ODD = {
    "one axis": ([1, 30], "2d"),
    "two axes": ([2, 5, 6], "2d"),
    "no axis": ([0, 5, 6, 1], "empty"),
    "an axis of 0": ([3, 5, 0, 6], "empty"),
    "four axes of 0": ([4, 5, 6, 7, 0], "empty"),
    "a negative axis": ([3, 5, -6, 1], ""),
    "too many axes": ([9, 5, 6, 1], ""),
    "seven axes": ([7, 5, 6, 1, 1, 1, 1, 1], ""),
}


@pytest.mark.oddity("odd-dimensions")
@pytest.mark.parametrize("name", ODD)
def test_headers_with_odd_dimensions_are_told_of_their_file(tmp_path, name):
    dims, code = ODD[name]
    path = tmp_path / "a.nii.gz"
    odd(path, dims)
    for deep in (False, True):
        facts = examine((str(path), deep))
        if name == "seven axes":
            assert facts.shape == (5, 6, 1)
            continue
        assert facts.code == code if code else facts.code, facts.text
        assert "\n" not in facts.text
    if name != "seven axes":
        with pytest.raises(VolumeError, match=r"a\.nii\.gz"):
            read_volume(path)


@pytest.mark.oddity("odd-dimensions")
def test_one_odd_file_of_any_kind_does_not_end_the_check_of_a_cohort(tmp_path, monkeypatch):
    lines = ["participant_id,image,age"]
    for k in range(12):
        path = tmp_path / f"s{k}.nii.gz"
        nib.save(nib.Nifti1Image(DATA + k, AFFINE), path)
        lines.append(f"s{k},{path},{20 + k}")
    odd(tmp_path / "s1.nii.gz", [2, 5, 6])
    odd(tmp_path / "s2.nii.gz", [0])
    (tmp_path / "s3.nii.gz").write_bytes(os.urandom(3))
    (tmp_path / "s4.nii.gz").unlink()
    (tmp_path / "s4.nii.gz").mkdir()
    (tmp_path / "s5.nii.gz").write_text(LFS)
    image = nib.Nifti1Image(np.where(DATA > 5, DATA, np.nan).astype(np.float32), AFFINE)
    nib.save(image, tmp_path / "s6.nii.gz")
    plain = check_files.read_header

    def breaks(path):
        if Path(path).name == "s7.nii.gz":
            raise ZeroDivisionError("a reader's own mistake")
        return plain(path)

    monkeypatch.setattr(check_files, "read_header", breaks)
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    report = check(Cohort.read(tmp_path / "m.csv"), progress=False)
    errors = {finding.row: finding.code for finding in report.findings if finding.level == "error"}
    wanted = {
        3: "2d",
        4: "empty",
        5: "unreadable",
        6: "unreadable",
        7: "missing-file",
        8: "not-finite",
        9: "unreadable",
    }
    assert errors == wanted
    texts = {finding.row: finding.text for finding in report.findings if finding.level == "error"}
    assert "a reader's own mistake" in texts[9]
    assert "set preprocessing.nan: zero" in texts[8]
    assert "is a folder" in texts[6]


@pytest.mark.oddity("missing-package")
def test_a_format_whose_package_is_not_installed_says_which_one(tmp_path, monkeypatch):
    path = tmp_path / "a.mnc"
    path.write_bytes((MINC.parent / "minc2_1_scale.mnc").read_bytes())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(VolumeError, match="needs the package h5py, which is not installed; run `pip install h5py`"):
        read_volume(path)
    facts = examine((str(path), True))
    assert (facts.code, "h5py" in facts.text) == ("unreadable", True)


@pytest.mark.oddity("pair-in-cache")
@pytest.mark.parametrize("name", ["a.img", "a.hdr"])
def test_either_file_of_a_pair_that_changes_is_another_entry_of_the_cache(tmp_path, name):
    def write(data, affine):
        nib.save(nib.Nifti1Pair(data, affine), tmp_path / "a.img")
        for file in ("a.img", "a.hdr"):
            os.utime(tmp_path / file, (1, 1))

    write(DATA, AFFINE)
    cache, scan = VolumeCache(tmp_path / "cache"), ((tmp_path / name),)
    before = np.array(cache.load(scan, Preprocessing()))
    header = (tmp_path / "a.hdr").read_bytes()
    write(DATA[::-1], AFFINE)
    (tmp_path / "a.hdr").write_bytes(header)
    os.utime(tmp_path / "a.hdr", (1, 1))
    os.utime(tmp_path / "a.img", (2, 2))
    np.testing.assert_array_equal(np.array(cache.load(scan, Preprocessing()))[:, ::-1], before)
    write(DATA[::-1], np.diag([-1, 1, 1, 1]) @ AFFINE)
    os.utime(tmp_path / "a.img", (2, 2))
    os.utime(tmp_path / "a.hdr", (2, 2))
    np.testing.assert_array_equal(np.array(cache.load(scan, Preprocessing())), before)


@pytest.mark.oddity("units")
def test_units_are_a_finding_of_the_check(tmp_path):
    lines = ["participant_id,image,age"]
    for k in range(3):
        image = nib.Nifti1Image(DATA + k, None)
        image.set_sform(AFFINE if k else np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, 1)
        image.set_qform(AFFINE if k else np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, 1)
        image.header.set_xyzt_units("mm" if k else "meter")
        nib.save(image, tmp_path / f"s{k}.nii.gz")
        lines.append(f"s{k},{tmp_path}/s{k}.nii.gz,{20 + k}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    report = check(Cohort.read(tmp_path / "m.csv"), progress=False)
    units = [f for f in report.findings if f.code == "units"]
    assert [(f.level, f.row) for f in units] == [("warning", 2)]
    assert "0.002 x 0.003 x 0.004 metres (xyzt_units) are read as 2 x 3 x 4 mm" in units[0].text
    assert not [f for f in report.findings if f.code in ("spacing", "sform-qform")]


def refusal(look: Callable[[Path], object], path: Path) -> str:
    """What a look at a file says where it refuses it; any other error than a VolumeError goes on."""
    try:
        look(path)
    except VolumeError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.oddity("damaged-header")
@pytest.mark.parametrize(
    "suffix", [".nii", ".nii.gz", ".mgh", ".mgz", ".hdr", ".nrrd", ".mha", ".gipl", ".npy", ".mnc"]
)
def test_whatever_is_damaged_in_a_header_ends_in_a_scan_or_in_one_sentence(tmp_path, suffix):
    path = made(tmp_path, suffix)
    good = path.read_bytes()
    packed = suffix in (".nii.gz", ".mgz")
    plain = gzip.decompress(good) if packed else good
    rng = np.random.default_rng(7)
    said: list[str] = []
    for k in range(60):
        bad = bytearray(plain)
        for place in rng.integers(0, min(len(plain), 380), rng.integers(1, 5)):
            bad[place] = rng.choice([0, 1, 127, 128, 255])
        bad = bad[: rng.integers(1, len(bad))] if k % 8 == 0 else bad
        path.write_bytes(gzip.compress(bytes(bad)) if packed else bytes(bad))
        looks = (read_header, read_volume, partial(_examined, deep=False), partial(_examined, deep=True))
        said += [words for look in looks if (words := refusal(look, path))]
    assert said
    assert not [words for words in said if "\n" in words]
