"""Rows and masks to try a submission on where the real ones are not at hand: true widths, true voxel counts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.data.volumes.formats import stored_nifti
from medssl.data.volumes.openbhb_layout import Block, BlockTable
from medssl.data.volumes.volume import write_volume
from medssl.errors import UserError
from medssl.files import said


def stand_in_mask(block: Block) -> npt.NDArray[np.float32]:
    """A centred ellipsoid (D, H, W) with exactly the block's voxels above its threshold, as the mask file holds it."""
    grids = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in block.shape[1:]], indexing="ij", sparse=True)
    distance_DHW = grids[0] ** 2 + grids[1] ** 2 + grids[2] ** 2
    nearest = np.argsort(distance_DHW, axis=None, kind="stable")[: block.mask_voxels]
    values = np.full(np.prod(block.shape[1:]), block.mask_above / 2, np.float32)
    values[nearest] = block.mask_above + 0.5
    return values.reshape(block.shape[1:])


def mask_file(block: Block, folder: Path) -> tuple[Path, bool]:
    """The mask that the server's variable names, or a stand-in written into ``folder``; and whether it is one."""
    given = os.environ.get(block.mask_variable)
    if given:
        return Path(given).resolve(), False
    path = folder / f"{block.name}-mask.nii.gz"
    write_volume(path, stand_in_mask(block), np.diag([-1.0, 1.0, 1.0, 1.0]))
    return path, True


def stand_in_rows(table: BlockTable, name: str, rows: int, path: Path, seed: int = 0) -> Path:
    """A sparse .npy array (rows, width) float32 whose block ``name`` holds random values and the rest 0."""
    rng = np.random.default_rng(seed)
    described = {"descr": "<f4", "fortran_order": False, "shape": (rows, table.width)}
    with said(path, "set TMPDIR to another disk"), path.open("wb") as file:  # no memory map: a full disk would kill it
        np.lib.format.write_array_header_1_0(file, described)
        start = file.tell()
        for i in range(rows):
            values = rng.gamma(2.0, 1.0 + 0.2 * i, table.block(name).size)
            file.seek(start + 4 * (i * table.width + table.span(name).start))
            file.write(values.astype("<f4").tobytes())
        file.truncate(start + 4 * rows * table.width)
    return path


def read_rows(path: Path, table: BlockTable) -> np.memmap:
    """Real rows, memory-mapped. Errors: UserError where the file is no array of the challenge's rows."""
    try:
        x_NV = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no readable .npy array ({error}); give test.npy or train.npy as published"
        ) from error
    if x_NV.ndim != 2 or x_NV.shape[1] != table.width or x_NV.dtype.kind != "f":
        raise UserError(
            f"{path} holds {x_NV.dtype} values of shape {x_NV.shape}, but rows of the challenge have {table.width} "
            "floating-point values; give test.npy or train.npy as published"
        )
    return x_NV


def volumes(x_NV: np.ndarray, table: BlockTable, name: str, stored: tuple[int, ...], mask: Path | None) -> np.ndarray:
    """The block of every row as (N, C, D, H, W) float32, unmasked in C order, in the order in which it is stored."""
    block = table.block(name)
    out = np.zeros((len(x_NV), *stored), np.float32)
    inside = None if mask is None else stored_nifti(mask).astype(np.float64) > block.mask_above
    for i, row_V in enumerate(x_NV):
        values_V = np.asarray(row_V[table.span(name)], np.float32)
        if inside is None:
            out[i] = values_V.reshape(stored)
        else:
            out[i, 0][inside] = values_V
    return out
