"""Marks of scans: equal for every container of one image, different for different images."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.copies import copies, file_key, mark, repeats, same_files
from medssl.data.volumes.preprocess import Preprocessing

TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", [0.1, 0.05, 1.4]).as_matrix() * [2.0, 2.1, 1.9]
TURN[:3, 3] = [-40, -30, -50]
"""An oblique affine with axes exchanged and voxels of three sizes."""


def brain(seed: int, shape: tuple[int, int, int] = (24, 28, 24)) -> np.ndarray:
    """Smooth structure that all share, and noise that is one scan's own; air around."""
    shared = ndimage.gaussian_filter(np.random.default_rng(99).normal(size=shape), 3) * 3000
    own = np.random.default_rng(seed).normal(size=shape) * 60
    inside = sum((g / n - 0.5) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)) < 0.22
    return np.where(inside, 900 + shared + own, 0).clip(0).round().astype(np.int16)


def saved(path: Path, data: np.ndarray, affine: np.ndarray = TURN) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def itk(path: Path, source: Path) -> Path:
    sitk.WriteImage(sitk.ReadImage(str(source)), str(path))
    return path


def scaled(path: Path, data: np.ndarray) -> Path:
    """Sixteen bits of their own, with a slope that rounds."""
    image = nib.Nifti1Image(data.astype(np.float64) * 0.0937 + 12.3, TURN)
    image.header.set_data_dtype(np.int16)
    nib.save(image, path)
    return path


def reoriented(path: Path, source: Path) -> Path:
    image = nib.load(source)
    nib.save(image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), path)
    return path


CONTAINERS: dict[str, Callable[[Path, Path, np.ndarray], Path]] = {
    "plain": lambda folder, source, data: saved(folder / "b.nii", data),
    "mgz": lambda folder, source, data: (nib.save(nib.MGHImage(data, TURN), folder / "b.mgz"), folder / "b.mgz")[1],
    "nrrd": lambda folder, source, data: itk(folder / "b.nrrd", source),
    "metaimage": lambda folder, source, data: itk(folder / "b.mha", source),
    "float64": lambda folder, source, data: saved(folder / "b.nii.gz", data.astype(np.float64)),
    "sixteen bits and a slope": lambda folder, source, data: scaled(folder / "b.nii.gz", data),
    "another orientation": lambda folder, source, data: reoriented(folder / "b.nii.gz", source),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("source") / "a.nii.gz", brain(0))


def marked(path: Path, spacing: float | None, dtype: str = "float32") -> str:
    prep = Preprocessing(spacing=None if spacing is None else (spacing,) * 3, shape=(16, 16, 16))
    return mark(VolumeCache(path.parent / "cache", dtype=dtype).load((path,), prep))


@pytest.mark.oddity("one-scan-in-two-containers")
@pytest.mark.parametrize("spacing", [None, 3.0])
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_of_one_image_shares_a_mark(tmp_path, source, container, spacing):
    other = CONTAINERS[container](tmp_path, source, brain(0))
    assert copies([marked(other, spacing)], [marked(source, spacing)]) == [(0, 0)]


@pytest.mark.parametrize("spacing", [None, 3.0])
def test_another_acquisition_of_one_head_has_another_mark(tmp_path, source, spacing):
    others = [saved(tmp_path / f"{k}.nii.gz", brain(k)) for k in range(1, 40)]
    noisy = saved(
        tmp_path / "noisy.nii.gz", brain(0) + np.random.default_rng(5).integers(-9, 10, brain(0).shape, np.int16)
    )
    marks = [marked(path, spacing) for path in (source, noisy, *others)]
    assert repeats(marks) == []
    assert all(text.count("-") == 3 for text in marks)


def test_images_of_few_values_are_told_apart_as_a_whole(tmp_path):
    mask = (brain(0) > 0).astype(np.float32)[None]
    other = mask.copy()
    other[0, 2, 3, 4] = 1 - other[0, 2, 3, 4]
    assert repeats([mark(x) for x in (mask, other, mask)]) == [(2, 0)]
    assert mark(mask)[0] == "w"


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_a_constant_image_and_one_of_few_values_have_no_mark(value):
    assert mark(np.full((1, 8, 8, 8), value, np.float32)) == ""
    assert mark(np.arange(15, dtype=np.float32).reshape(1, 15, 1, 1)) == ""
    assert mark(np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1))
    assert copies(["", ""], ["", ""]) == repeats(["", ""]) == []


def test_rows_of_a_table_are_compared_by_all_their_features():
    rows = np.random.default_rng(0).normal(2.5, 0.3, (200, 68)).astype(np.float32)
    marks = [mark(row.reshape(1, -1, 1, 1)) for row in rows]
    assert repeats([*marks, marks[7]]) == [(200, 7)]


def test_a_cache_of_half_precision_finds_copies_too(tmp_path, source):
    other = saved(tmp_path / "b.nii", brain(0))
    assert copies([marked(other, 3.0, "float16")], [marked(source, 3.0, "float16")]) == [(0, 0)]


@pytest.mark.oddity("links-to-one-scan")
def test_links_of_either_kind_are_one_file_and_copies_one_content(tmp_path):
    first = saved(tmp_path / "a.nii", brain(0))
    (tmp_path / "link.nii").symlink_to(first)
    os.link(first, tmp_path / "hard.nii")
    (tmp_path / "copy.nii").write_bytes(first.read_bytes())
    (tmp_path / "packed.nii.gz").write_bytes(gzip.compress(first.read_bytes(), 1))
    (tmp_path / "tighter.nii.gz").write_bytes(gzip.compress(first.read_bytes(), 9))
    saved(tmp_path / "other.nii", brain(1))
    names = ["a.nii", "link.nii", "hard.nii", "copy.nii", "packed.nii.gz", "tighter.nii.gz", "other.nii", "gone.nii"]
    cells = [str(tmp_path / name) for name in names]
    keys = [file_key(cell) for cell in cells]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[-1] == "" == file_key("")
    labels = same_files([*cells, ""])
    assert labels[0] == labels[1] == labels[2] == labels[3] != ""
    assert labels[4] == labels[5] != ""
    assert labels[6:] == ["", "", ""]


def test_parts_of_one_file_are_different_scans(tmp_path):
    (tmp_path / "wide.npy").write_bytes(b"x")
    one, other = (file_key(f"{tmp_path}/wide.npy#vbm@{row}") for row in (1, 2))
    assert one
    assert one != other
    assert same_files([f"{tmp_path}/wide.npy#vbm@1"] * 2) == ["", ""]
