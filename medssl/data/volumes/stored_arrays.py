"""Reads what a reference names: one row of a wide array, the array of one scan, or one row of a table.

Wide arrays are memory-mapped: of 47 GB, the bytes of one block of one row are read. Values are left in the order
in which they are stored, so that an encoder sees what the server of the challenge will give it.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.data.volumes.checksum import crc32, file_crc32
from medssl.data.volumes.formats import reading
from medssl.data.volumes.openbhb_layout import Block, by, current, read_mask, unmask
from medssl.data.volumes.reference import Reference, files_of, parse, why_absent
from medssl.data.volumes.regular import refuse_irregular
from medssl.data.volumes.scan import Header
from medssl.errors import VolumeError
from medssl.tables.pointers import stands_in

_LABELS = frozenset({"participant_id", "session", "age", "sex", "site", "siteXacq", "study", "split", "tiv"})
_SAMPLE = 1 << 14


def is_grid(reference: Reference) -> bool:
    """Whether its voxels have places in mm: all but surfaces, regional measures and tables."""
    return reference.part in ("", "vbm", "quasiraw")


def read_part(reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Values (C, D, H, W) float32 and the affine (4, 4) of a part; regional measures are (C, D, 1, 1).

    Errors: VolumeError naming the file and what is wrong: absent, another width, a row that it lacks, no mask.
    """
    _refuse_absent(reference)
    with reading(reference.file):
        if reference.part == "table":
            values = _table_row(reference)
            return values.reshape(1, -1, 1, 1), np.eye(4)
        block = current().block(reference.part)
        if reference.row is None:
            return np.array(_whole(reference.file, block), dtype=np.float32).reshape(block.shape), block.affine
        values = np.array(_row(reference), dtype=np.float32)
    if reference.needs_mask:
        mask = read_mask(_mask_of(reference), block)
        return unmask(values, mask)[None], block.affine
    return values.reshape(block.shape), block.affine


def part_header(reference: Reference) -> Header:
    """Shape, spacing and type of a part, without reading its values. Errors: VolumeError, as ``read_part``."""
    _refuse_absent(reference)
    with reading(reference.file):
        if reference.part == "table":
            shape, affine, dtype = (1, len(_table_row(reference)), 1, 1), np.eye(4), "float32"
        else:
            block = current().block(reference.part)
            array = _whole(reference.file, block) if reference.row is None else _row(reference)
            shape, affine, dtype = block.shape, block.affine, str(array.dtype)
    step = abs(float(affine[0, 0]))
    sides = "LAS" if affine[0, 0] < 0 else "RAS"
    many = shape[0] > 1
    stored = (*shape[1:], 1, shape[0]) if many else shape[1:]
    return Header(stored, (step,) * 3, sides, affine, None, None, 0, 0, dtype, len(stored))


def sample_bytes(reference: Reference) -> bytes:
    """Some values from the middle of a part, equal for copies; the whole part where it is small."""
    if reference.part == "table":
        return _table_row(reference).tobytes()
    block = current().block(reference.part)
    array = _whole(reference.file, block).reshape(-1) if reference.row is None else _row(reference)
    middle = len(array) // 2
    return np.array(array[max(0, middle - _SAMPLE) : middle + _SAMPLE]).tobytes()


def part_bytes(reference: Reference) -> bytes:
    """All values of a part and of its mask, for an identity by content."""
    values, _ = read_part(reference)
    return repr((reference.part, values.shape)).encode() + values.tobytes()


def content_digest(image: Path) -> str:
    """sha256 hex of the bytes of a file, or of the values of a part of one."""
    try:
        reference = parse(image)
        refuse_irregular(reference.file)
        if reference.part:
            return hashlib.sha256(part_bytes(reference)).hexdigest()
        return hashlib.sha256(image.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise VolumeError(f"{image} {why_absent(image)}") from error
    except OSError as error:
        raise VolumeError(f"{image} cannot be read ({error.strerror}); correct the path or drop the row") from error


def content_crc(image: Path, start: int = 0) -> int:
    """CRC-32 of the bytes of the files that an image names, or of the values of a part, after ``start``.

    Errors: VolumeError where one cannot be read.
    """
    reference = parse(image)
    if reference.part:
        return crc32(part_bytes(reference), start)
    try:
        for file in files_of(image):
            start = file_crc32(file, start)
    except OSError as error:
        raise VolumeError(f"{image} cannot be read ({error.strerror}); correct the path or drop the row") from error
    return start


def wide_array(path: Path) -> np.memmap:
    """A wide array (rows, width) as memory map. Errors: VolumeError for another type, rank or width, or a cut file."""
    width = current().width
    with reading(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] != width:
        raise VolumeError(
            f"{path} holds {array.dtype} values of shape {by(array.shape)}, but rows of OpenBHB have {width:,} float32 "
            "values; take the array as published"
        )
    return array


def _row(reference: Reference) -> np.ndarray:
    """The values of a block in one row, still on disk."""
    array = wide_array(reference.file)
    row = reference.row or 0
    if row >= len(array):
        raise VolumeError(f"{reference.file} has {len(array)} rows, so no row {row} (they count from 0); scan it again")
    values: np.ndarray = array[row, current().span(reference.part)]
    return values


def _whole(path: Path, block: Block) -> np.ndarray:
    """The array of one scan: the block's shape, with any axes of length 1, still on disk."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    wanted = tuple(n for n in block.shape if n > 1)
    if array.dtype.kind not in "fiu" or tuple(n for n in array.shape if n > 1) != wanted:
        raise VolumeError(
            f"{path} holds {array.dtype} values of shape {by(array.shape)}, but {block.name} has {by(wanted)}; give "
            "the file of that modality"
        )
    plain: np.ndarray = array.reshape(wanted)
    return plain


def _mask_of(reference: Reference) -> Path:
    if reference.mask is None:
        raise VolumeError(
            f"{reference}: no mask is given for these voxels; fill the column mask of the manifest (`medssl cohort "
            "scan ROOT --layout openbhb` does)"
        )
    return reference.mask


def _refuse_absent(reference: Reference) -> None:
    if (pointer := stands_in(reference.file)) or not reference.file.is_file():
        raise VolumeError(f"{reference.file} {pointer or why_absent(reference.file)}")
    if reference.part == "table" and reference.row is None:
        raise VolumeError(f"{reference}: no row of the table is named; write {reference}@ROW, counted from 0")


def _table_row(reference: Reference) -> np.ndarray:
    """The numbers of one row of a table, float32; labels and ids are left out."""
    state = reference.file.stat()
    matrix = _table(reference.file, state.st_mtime_ns, state.st_size)
    row = reference.row or 0
    if row >= len(matrix):
        raise VolumeError(f"{reference.file} has {len(matrix)} rows below its header, so no row {row}; scan it again")
    values: np.ndarray = matrix[row]
    if not np.isfinite(values).all():
        raise VolumeError(
            f"{reference}: {int((~np.isfinite(values)).sum())} of its {math.prod(values.shape)} features are empty or "
            "no numbers; fill them, or drop the row"
        )
    return values


def table_features(path: Path) -> list[str]:
    """Names of the feature columns of a table, in order."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    return [str(name) for name in pd.read_csv(path, sep=separator, nrows=0).columns if name not in _LABELS]


@lru_cache(maxsize=2)
def _table(path: Path, changed: int, size: int) -> np.ndarray:
    """All feature columns of a table as float32 (rows, F); parsed once per process."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    table = pd.read_csv(path, sep=separator, dtype={"participant_id": str, "session": str})
    features = table[table_features(path)]
    text = [str(name) for name in features.columns if not pd.api.types.is_numeric_dtype(features[name])]
    if text or not len(features.columns):
        what = f'column "{text[0]}" holds text' if text else "no column holds features"
        raise VolumeError(f"{path}: {what}; a table of features has participant_id, session and numbers")
    return features.to_numpy(np.float32)
