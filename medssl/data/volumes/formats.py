"""File formats of volumes: which are known, how broken files are reported, which shapes are one 3D scan."""

from __future__ import annotations

import gzip
import io
import logging
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.arrayproxy import ArrayProxy

from medssl.data.volumes.buffers import Rooms
from medssl.data.volumes.gunzip import MAGIC, MOST, gunzip
from medssl.data.volumes.image_files import SUFFIXES, data_file, is_hidden, other_of_pair, suffix_of
from medssl.data.volumes.regular import refuse_irregular
from medssl.data.volumes.stored_voxels import TEXT_HEADERS, text_header
from medssl.errors import UserError, VolumeError
from medssl.tables.pointers import stands_in

READERS = ("auto", "nibabel", "sitk")
_PADDING = 1 << 20
"""Bytes that a packed file may have behind its voxels, whatever their number."""
_WALKED = 1 << 20
"""Bytes of a header's extensions that are looked over: the rest would have to be unpacked for nothing."""
_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
"""Codes of ``xyzt_units`` other than mm, and how many mm they are."""
_VOXEL = (0.2, 20.0)
"""Sizes [mm] that voxels of a brain scan may have."""
_QUIET = logging.Logger("medssl.nifti", logging.CRITICAL)
"""What nibabel mends in a header (a negative pixdim) is not printed file by file."""
_rooms = Rooms(1)
_rooms_packed = Rooms(1)
AGAIN = "copy or convert it again, or drop its row"


def check_file(path: Path, reader: str) -> str:
    """Suffix of a file that exists, holds its content and has a known format."""
    if reader not in READERS:
        raise VolumeError(f'reader "{reader}" is unknown; choose one of {", ".join(READERS)}')
    suffix = suffix_of(path)
    _refuse_absent(path)
    if path.is_dir():
        inside = " (it is only named like one)" if suffix in SUFFIXES else ""
        raise VolumeError(f"{path} is a folder, not a volume file{inside}; give the path of the scan's file")
    if is_hidden(path.name):
        what = "what macOS keeps beside a file" if path.name.startswith("._") else "a hidden file"
        raise VolumeError(f"{path} is {what}, not a scan; name the file without the leading dot, or drop the row")
    if suffix not in SUFFIXES:
        raise VolumeError(f"{path} is not a volume file; supported are {', '.join(SUFFIXES)} (convert DICOM first)")
    refuse_irregular(path)
    other = other_of_pair(path)
    if other is not None:
        before = f"{path} is one file of a pair, and the other one, "
        _refuse_absent(other, before)
        refuse_irregular(other, before)
    if suffix in TEXT_HEADERS:
        with reading(path):
            voxels = text_header(path).voxels
            if voxels != path:
                before = f"{path} names the file of its voxels, and it, "
                _refuse_absent(voxels, before)
                refuse_irregular(voxels, before)
    return suffix


def _refuse_absent(path: Path, before: str = "") -> None:
    """Errors: VolumeError where there is no file, or one that only stands in for its content (git-annex, git-lfs)."""
    comma = "," if before else ""
    if reason := stands_in(path):
        raise VolumeError(f"{before}{path}{comma} {reason}")
    if not os.path.exists(path):
        remedy = "copy it as well" if before else "correct the path in the manifest"
        raise VolumeError(f"{before}{path}{comma} does not exist; {remedy} or drop the row")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever readers raise on broken files into a VolumeError naming the file."""
    try:
        if path.stat().st_size == 0:
            raise VolumeError(f"{path} is empty (0 bytes); {AGAIN}")
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise VolumeError(
            f"{error.filename or path} vanished while it was read; put it back, or drop the row"
        ) from error
    except PermissionError as error:
        raise VolumeError(f"{path} may not be read (permission denied); change its permissions") from error
    except EOFError as error:
        raise VolumeError(f"{path} is truncated (its gzip stream ends early); {AGAIN}") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(f"{path} is a corrupt gzip file ({error}); {AGAIN}") from error
    except ImportError as error:
        remedy = f"run `pip install {error.name}`, or convert the file to NIfTI"
        raise VolumeError(f"{path} needs the package {error.name}, which is not installed; {remedy}") from error
    except Exception as error:  # readers have classes of their own, and stumble over broken headers in many ways
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
    """NIfTI-1 or -2 header without reading further than needed; ``check`` refuses what nibabel cannot make sense of.

    Extensions are walked over by their sizes, up to 1 MiB of them, and never parsed: where the voxels begin is what
    ``vox_offset`` says. Errors: VolumeError where it lies in the header, or an extension ends behind it.
    """
    with open(path, "rb") as plain:
        packed = plain.read(2) == MAGIC
        plain.seek(0)
        stream: Any = gzip.GzipFile(fileobj=plain) if packed else plain
        start = stream.read(544)
        for kind in (nib.Nifti1Header, nib.Nifti2Header):
            if len(start) >= kind.sizeof_hdr and kind.may_contain_header(start):
                _refuse_dimensions(kind.sizeof_hdr, start, path)
                header = kind(start[: kind.sizeof_hdr], check=False)
                _settle_offset(header, path)
                if check:
                    header.check_fix(logger=_QUIET)
                if start[kind.sizeof_hdr : kind.sizeof_hdr + 1].strip(b"\0"):
                    _walk_extensions(stream, header, path)
                return header
    raise VolumeError(f"{path} is not a NIfTI file, or its header is corrupt; {AGAIN}")


def _refuse_dimensions(size: int, start: bytes, path: Path) -> None:
    """Refuse a number of axes that is none, by which nibabel tells the byte order. size: of the header."""
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    at, width = (40, 2) if size == 348 else (16, 8)
    for order in orders:
        axes = int.from_bytes(start[at : at + width], order, signed=True)
        if int.from_bytes(start[:4], order) == size and not 0 <= axes <= 7:
            raise VolumeError(f"{path} states {axes} axes (dim[0] of its header), but a file has 1 to 7; {AGAIN}")


def _settle_offset(header: Any, path: Path) -> None:
    """A ``vox_offset`` of 0 means behind the header."""
    offset, least = float(header["vox_offset"]), int(header.single_vox_offset)
    if offset == 0:
        header["vox_offset"] = least
    elif not least <= offset < 2**63:
        raise VolumeError(
            f"{path} has voxels from byte {offset:g} on (vox_offset), but its header takes {least}; {AGAIN}"
        )


def _walk_extensions(stream: Any, header: Any, path: Path) -> None:
    """Refuse an extension that the file or ``vox_offset`` cuts short; zeros behind the last one are padding.

    Sizes that are no multiples of 16, against the standard, are taken as they are: where voxels lie is not theirs to
    say, and nibabel reads them too.
    """
    at, end = int(header.single_vox_offset), int(header["vox_offset"])
    while at + 16 <= min(end, _WALKED):
        stream.seek(at)
        words = stream.read(8)
        size, code = np.frombuffer(words, f"{header.endianness}i4").tolist() if len(words) == 8 else (-1, 0)
        if size == code == 0:
            return
        if size < 8 or at + size > end:
            what = "is truncated" if len(words) < 8 else f"has a header extension of {size} bytes at byte {at}"
            raise VolumeError(f"{path} {what}, but its voxels begin at byte {end}; {AGAIN}")
        at += size


def millimetres(header: Any) -> tuple[float, str]:
    """What turns lengths of a NIfTI header into mm, and what is to be said of its units ("" for mm and unknown ones).

    Metres and micrometres are converted, unless the numbers are sizes of a brain scan's voxels as they stand (0.2 to
    20): then the unit is wrong, since no scan has voxels of that many metres or micrometres, and they are taken as mm.
    """
    name, factor = _UNITS.get(int(header["xyzt_units"]) % 8, ("", 1.0))
    if not name:
        return 1.0, ""
    sizes = voxel_sizes(np.asarray(header.get_best_affine(), float))
    said = " x ".join(f"{size:.4g}" for size in sizes)
    if all(_VOXEL[0] <= size <= _VOXEL[1] for size in sizes):
        return 1.0, (
            f"xyzt_units says {name}, but voxels of {said} {name} are none of a brain scan, so they are taken as mm; "
            "correct xyzt_units"
        )
    converted = " x ".join(f"{size * factor:.4g}" for size in sizes)
    return factor, f"voxels of {said} {name} (xyzt_units) are read as {converted} mm; make sure that this is right"


def loaded(path: Path) -> Any:
    """nibabel's image, without its warnings about sizes of extensions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nib.load(path)


def in_mm(affine: np.ndarray, header: Any) -> np.ndarray:
    """An affine (4, 4) of a file with this header, with its lengths in mm."""
    factor = millimetres(header)[0] if isinstance(header, nib.Nifti1Header) else 1.0
    return affine if factor == 1 else np.diag([factor, factor, factor, 1.0]) @ affine


def nifti_bytes(header: Any) -> int:
    """Length of an unpacked file with this header of NIfTI, or of another format that knows where its voxels begin."""
    voxels = math.prod(int(n) for n in header.get_data_shape())
    return int(header.get_data_offset()) + voxels * int(header.get_data_dtype().itemsize)


def refuse_short(path: Path, header: Any) -> None:
    """Refuse a file that cannot hold what its header states, before memory is asked for; packed ones by what fits."""
    if not hasattr(header, "get_data_offset"):
        return
    file, needed = data_file(path), nifti_bytes(header)
    with open(file, "rb") as stream:
        packed = stream.read(2) == MAGIC
        size = stream.seek(0, os.SEEK_END)
    if size * (MOST if packed else 1) < needed:
        raise VolumeError(f"{path} is truncated ({size} of {needed} bytes); {AGAIN}")


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
    data = np.load(path, mmap_mode="r", allow_pickle=False)  # its length is held against the header first
    if data.dtype.kind not in "biuf" or data.ndim not in (3, 4) or data.size == 0:
        raise VolumeError(
            f"{path} holds {data.dtype} values of shape {data.shape}; "
            "save real numbers of shape (D, H, W) or (C, D, H, W)"
        )
    data = data if mmap else np.array(data)
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
    """Values of a NIfTI file in file order, scaled, without a turn to RAS. Errors: VolumeError naming the file."""
    with reading(path):
        header = nifti_header(path, check=True)
        content = unpacked(path, nifti_bytes(header))
        return np.asanyarray(ArrayProxy(io.BytesIO(content.tobytes()), header))
