from __future__ import annotations

import subprocess
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.lib import format as npy

from medssl.data.volumes.openbhb_layout import (
    OPENBHB,
    Block,
    BlockTable,
    current,
    git_blob,
    masked,
    read_mask,
    reading_as,
    unmask,
)
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError


def test_the_table_is_that_of_the_challenge():
    spans = {
        "vbm": (0, 519_945),
        "quasiraw": (519_945, 2_347_040),
        "xhemi": (2_347_040, 3_657_776),
        "vbm_roi": (3_657_776, 3_658_060),
        "desikan_roi": (3_658_060, 3_658_536),
        "destrieux_roi": (3_658_536, 3_659_572),
    }
    assert {b.name: (OPENBHB.span(b.name).start, OPENBHB.span(b.name).stop) for b in OPENBHB.blocks} == spans
    assert OPENBHB.width == 3_659_572
    assert current() is OPENBHB
    assert [b.shape for b in OPENBHB.blocks] == [
        (1, 121, 145, 121),
        (1, 182, 218, 182),
        (8, 163_842, 1, 1),
        (1, 284, 1, 1),
        (7, 68, 1, 1),
        (7, 148, 1, 1),
    ]
    for name in ("span", "block"):
        with pytest.raises(VolumeError, match="no modality 't2'"):
            getattr(OPENBHB, name)("t2")


def test_another_table_holds_only_inside_its_block():
    small = BlockTable((Block("vbm", (1, 2, 2, 2)),))
    with reading_as(small):
        assert current() is small
    assert current() is OPENBHB


def test_masking_and_unmasking_are_inverse_bit_for_bit():
    rng = np.random.default_rng(0)
    mask = rng.random((12, 14, 11)) < 0.3
    values = rng.standard_normal(int(mask.sum())).astype(np.float32)
    volume = unmask(values, mask)
    assert masked(volume, mask).tobytes() == values.tobytes()
    assert unmask(masked(volume, mask), mask).tobytes() == volume.tobytes()
    assert not volume[~mask].any()
    flat = np.flatnonzero(mask.reshape(-1))
    assert np.array_equal(volume.reshape(-1)[flat], values), "voxels count in C order"


@pytest.mark.parametrize("changed", [-1, 0, 1])
def test_only_a_mask_with_the_published_number_of_voxels_is_taken(tmp_path: Path, changed: int):
    block = OPENBHB.block("vbm")
    values = np.zeros(block.shape[1:], np.float32)
    values.reshape(-1)[1000 : 1000 + block.mask_voxels + changed] = 0.06
    values.reshape(-1)[:500] = 0.05  # not above the threshold
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    if changed:
        with pytest.raises(VolumeError, match=r"the mask of vbm has 519,945"):
            read_mask(path, block)
    else:
        assert read_mask(path, block).sum() == 519_945


def test_a_mask_that_is_absent_or_no_image_is_refused(tmp_path: Path):
    with pytest.raises(VolumeError, match="from the folder resource/"):
        read_mask(tmp_path / "none.nii.gz", OPENBHB.block("vbm"))
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(VolumeError, match="is not a NIfTI file"):
        read_mask(tmp_path / "text.nii.gz", OPENBHB.block("vbm"))


def test_the_blob_id_is_that_of_git(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert git_blob(path) == "ce013625030ba8dba906f756967f9e9ca394464a"
    try:
        said = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return
    assert said.stdout.strip() == git_blob(path)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Three sparse rows of the true width; the last one has numbers in two blocks."""
    path = tmp_path / "train.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (3, OPENBHB.width)}
        npy.write_array_header_1_0(file, header)
        offset = file.tell()
        file.truncate(offset + 3 * OPENBHB.width * 4)
    array = np.load(path, mmap_mode="r+")
    array[2, OPENBHB.span("desikan_roi")] = np.arange(476)
    array[2, OPENBHB.span("xhemi")][-5:] = 7
    del array
    return path


def test_one_row_of_the_true_width_is_read_without_the_others(wide: Path):
    tracemalloc.start()
    regions = read_volume(f"{wide}#desikan_roi@2").data
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000, "a row has 14.6 MB"
    assert regions.shape == (7, 68, 1, 1)
    assert regions[3, 2, 0, 0] == 3 * 68 + 2
    surface = read_volume(f"{wide}#xhemi@2").data
    assert surface.shape == (8, 163_842, 1, 1)
    assert surface[7, -5:, 0, 0].tolist() == [7] * 5
    assert not surface[:7].any()


def test_headers_of_parts_state_grid_and_channels(wide: Path):
    vbm, surface = read_header(f"{wide}#vbm@0"), read_header(f"{wide}#xhemi@0")
    assert (vbm.ras, vbm.channels) == (((121, 145, 121), (1.5, 1.5, 1.5)), 1)
    assert vbm.affine.tolist()[0] == [-1.5, 0, 0, 90]
    assert (surface.ras[0], surface.channels) == ((163_842, 1, 1), 8)
    quasiraw = read_header(f"{wide}#quasiraw@0").affine
    assert quasiraw.tolist() == [[-1, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]]


def test_a_row_of_the_true_width_becomes_its_volume(wide: Path, tmp_path: Path):
    block = OPENBHB.block("vbm")
    values = np.zeros(block.shape[1:], np.float32)
    values.reshape(-1)[1000 : 1000 + block.mask_voxels] = 1
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "mask.nii.gz")
    array = np.load(wide, mmap_mode="r+")
    array[1, OPENBHB.span("vbm")] = np.arange(block.mask_voxels)
    del array
    volume = read_volume(f"{wide}#vbm@1|mask={tmp_path}/mask.nii.gz")
    assert volume.data.shape == block.shape
    assert np.array_equal(volume.data.reshape(-1)[1000 : 1000 + block.mask_voxels], np.arange(block.mask_voxels))
    assert volume.spacing.tolist() == [1.5] * 3
