"""File formats of volumes: which are known, how broken files are reported, which shapes are one 3D scan."""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from medssl.data.gunzip import MAGIC, gunzip
from medssl.data.image_files import SUFFIXES, suffix_of
from medssl.data.rooms import Rooms
from medssl.errors import VolumeError

READERS = ("auto", "nibabel", "sitk")
_PADDING = 1 << 20
"""Bytes that a packed file may have behind its voxels, whatever their number."""
_rooms = Rooms(1)
_rooms_packed = Rooms(1)
AGAIN = "copy or convert it again, or drop its row"
_BROKEN = (OSError, ValueError, TypeError, KeyError, OverflowError, RuntimeError, MemoryError)


def check_file(path: Path, reader: str) -> str:
    """Suffix of a file that exists and has a known format."""
    if reader not in READERS:
        raise VolumeError(f'reader "{reader}" is unknown; choose one of {", ".join(READERS)}')
    suffix = suffix_of(path)
    if not path.exists():
        raise VolumeError(f"{path} does not exist; correct the path in the manifest or drop the row")
    if path.is_dir():
        raise VolumeError(f"{path} is a folder, not a volume file; give the path of the scan's file")
    if suffix not in SUFFIXES:
        raise VolumeError(f"{path} is not a volume file; supported are {', '.join(SUFFIXES)} (convert DICOM first)")
    return suffix


@contextmanager
def reading(path: Path, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what readers (``also``: their own classes) raise on broken files into a VolumeError naming the file."""
    broken: tuple[type[Exception], ...] = (*_BROKEN, *also)
    try:
        if path.stat().st_size == 0:
            raise VolumeError(f"{path} is empty (0 bytes); {AGAIN}")
        yield
    except VolumeError:
        raise
    except PermissionError as error:
        raise VolumeError(f"{path} may not be read (permission denied); change its permissions") from error
    except EOFError as error:
        raise VolumeError(f"{path} is truncated (its gzip stream ends early); {AGAIN}") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(f"{path} is a corrupt gzip file ({error}); {AGAIN}") from error
    except broken as error:
        reason = " ".join(str(error).split())[-160:] or type(error).__name__
        raise VolumeError(f"{path} cannot be read, truncated or corrupt ({reason}); {AGAIN}") from error


def unpacked(path: Path, needed: int) -> np.ndarray:
    """Content (n,) uint8 of a file, unpacked where it starts like gzip, whatever its name.

    needed: bytes that its header states. Errors: VolumeError where it unpacks to more than that and generous padding.
    """
    content = _content(path)
    if content[:2].tobytes() != MAGIC:
        return content
    try:
        return gunzip(content, 2 * needed + _PADDING)
    except OverflowError as error:
        raise VolumeError(
            f"{path} unpacks to more than twice the {needed} bytes that its header states, so it is damaged or a gzip "
            f"bomb; {AGAIN}"
        ) from error


def _content(path: Path) -> np.ndarray:
    """Bytes of a file; packed ones, whose reader unpacks them at once, in memory that is used again."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        content = _rooms_packed([size], np.uint8)
        view, at = content.data, 0
        while at < size and (n := file.readinto(view[at:])):
            at += n
    return content[:at]


def nifti_header(path: Path, check: bool = False) -> Any:
    """NIfTI-1 or -2 header without reading further than needed; ``check`` refuses what nibabel cannot make sense of."""
    with open(path, "rb") as plain:
        packed = plain.read(2) == MAGIC
        plain.seek(0)
        stream: Any = gzip.GzipFile(fileobj=plain) if packed else plain
        start = stream.read(544)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if len(start) >= kind.sizeof_hdr and kind.may_contain_header(start):
            return kind.from_fileobj(io.BytesIO(start), check=check)
    raise VolumeError(f"{path} is not a NIfTI file, or its header is corrupt; {AGAIN}")


def nifti_bytes(header: Any) -> int:
    """Length of an unpacked NIfTI file with this header."""
    voxels = math.prod(int(n) for n in header.get_data_shape())
    return int(header.get_data_offset()) + voxels * int(header.get_data_dtype().itemsize)


def spatial(data: np.ndarray, path: Path) -> np.ndarray:
    """(X, Y, Z) or, for vectors, (X, Y, Z, C), as a view: trailing ones dropped, time series refused."""
    shape = data.shape
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim == 5 and data.shape[3] == 1:
        data = data[:, :, :, 0]
    elif data.ndim != 3:
        raise VolumeError(
            f"{path} has shape {shape}, but one 3D volume is needed; extract one volume (such as the mean over time), "
            "or give each modality its own file and column image_<modality>"
        )
    if data.size == 0:
        raise VolumeError(f"{path} has shape {shape} and so no voxel; {AGAIN}")
    return data


def filled(data_XYZ: np.ndarray, slope: float = 1.0, inter: float = 0.0) -> np.ndarray:
    """``data * slope + inter`` in float64, as float32 in C order, from any order.

    File order and C order run through memory along different axes. Slabs along the third one keep what is read and
    what is written in the processor's cache. A slab is cast in the order in which it is stored, forwards, so that the
    turn moves numbers of one size.
    """
    data = data_XYZ if data_XYZ.dtype.isnative else data_XYZ.astype(data_XYZ.dtype.newbyteorder("="))
    out = _rooms(data.shape)
    forwards = tuple(slice(None, None, -1 if stride < 0 else None) for stride in data.strides)
    fastest = int(np.argmin(np.abs(data.strides)))
    slabs = next(axis for axis in (1, 0, 2) if axis not in (fastest, data.ndim - 1))
    into, stored = (np.moveaxis(x[forwards], slabs, 0) for x in (out, data))
    with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes Inf, reported later
        for k in range(0, len(stored), 2):  # two at once: longer runs through memory
            part = stored[k : k + 2]
            plain = slope == 1 and inter == 0
            into[k : k + 2] = part.astype(np.float32, copy=False) if plain else part.astype(np.float64) * slope + inter
    return out


def npy_values(path: Path, mmap: bool = False) -> np.ndarray:
    """Array (C, D, H, W) of a ``.npy`` file that holds real numbers of shape (D, H, W) or (C, D, H, W)."""
    data = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    if data.dtype.kind not in "biuf" or data.ndim not in (3, 4) or data.size == 0:
        raise VolumeError(
            f"{path} holds {data.dtype} values of shape {data.shape}; "
            "save real numbers of shape (D, H, W) or (C, D, H, W)"
        )
    return data if data.ndim == 4 else data[None]


def storable(data: np.ndarray) -> np.ndarray:
    """Data in a NIfTI type, channels as a vector axis at the end."""
    kinds = {
        "float64": np.float32,
        "float16": np.float32,
        "bool": np.uint8,
        "int64": np.int32,
        "uint64": np.uint32,
    }
    data = data.astype(kinds.get(data.dtype.name, data.dtype))
    if data.ndim == 3:
        return data
    return data[0] if data.shape[0] == 1 else np.moveaxis(data, 0, -1)[:, :, :, None, :]


def stored_nifti(path: Path) -> np.ndarray:
    """Values of a NIfTI-1 file in file order, scaled, without a turn to RAS. Errors: VolumeError naming the file."""
    with reading(path, (ImageFileError, HeaderDataError, WrapStructError)):
        content = unpacked(path, nifti_bytes(nifti_header(path)))
        return np.asanyarray(nib.Nifti1Image.from_stream(io.BytesIO(content.tobytes())).dataobj)
