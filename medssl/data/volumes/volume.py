"""NIfTI and other volumes in and out: nibabel and SimpleITK behind one function, always (C, D, H, W) in RAS.

Which reader: nibabel's header, bytes that are unpacked at once by libdeflate (the gzip checksum is verified on the way)
and one pass from there to float32 in RAS; SimpleITK for the formats nibabel lacks.
"""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import OrientationError, aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation

from medssl.data.volumes.formats import (
    AGAIN,
    check_file,
    filled,
    in_mm,
    loaded,
    millimetres,
    nifti_bytes,
    nifti_header,
    npy_values,
    reading,
    refuse_short,
    spatial,
    storable,
    unpacked,
)
from medssl.data.volumes.gunzip import MOST
from medssl.data.volumes.image_files import NIFTI, PAIRS, SITK, suffix_of
from medssl.data.volumes.reference import parse
from medssl.data.volumes.scan import Header, Volume
from medssl.data.volumes.stored_arrays import part_header, read_part
from medssl.data.volumes.stored_voxels import TEXT_HEADERS, refuse_damaged
from medssl.data.volumes.text_header import CONVERT
from medssl.errors import VolumeError
from medssl.files import write_atomic

_SITK_IO = {
    **dict.fromkeys((".mha", ".mhd"), "MetaImageIO"),
    **dict.fromkeys((".nrrd", ".nhdr"), "NrrdImageIO"),
    ".gipl": "GiplImageIO",
}
_NOT_INVERTIBLE = "has an affine that cannot be inverted, so its orientation is unknown; repair its header"
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class _Raw(NamedTuple):
    """Content in file order: data (X, Y, Z) or (X, Y, Z, C) as stored, affine (4, 4), and how to scale it."""

    data: np.ndarray
    affine: np.ndarray
    slope: float = 1.0
    inter: float = 0.0


def read_volume(path: str | Path, reader: str = "auto") -> Volume:
    """Read one scan and turn it to RAS.

    reader: "auto" (nibabel where it knows the format, else SimpleITK), "nibabel", "sitk". NIfTI intensities are
    scaled by scl_slope and scl_inter. Trailing axes of length 1 are dropped; NIfTI vectors (X, Y, Z, 1, C) and
    multi-component images become C channels. ``.npy`` holds (D, H, W) or (C, D, H, W), taken as RAS, spacing 1 mm.
    Parts of files (``FILE#vbm@12``, see medssl.data.volumes.reference) stay in the order in which they are stored.
    Errors: VolumeError naming the file where it is absent, empty, truncated, corrupt, of an unknown format, not
    three-dimensional, complex or RGB, or has an affine that cannot be inverted. NaN and Inf pass (see preprocess).
    """
    path, reference = Path(path), parse(path)
    if reference.part:
        data_CDHW, affine = read_part(reference)
        return Volume(data_CDHW, affine, voxel_sizes(affine), str(reference))
    suffix = check_file(path, reader)
    with reading(path):
        if suffix == ".npy":
            data_CDHW = np.ascontiguousarray(npy_values(path), dtype=np.float32)
            return Volume(data_CDHW, np.eye(4), np.ones(3), str(path))
        raw = _read_sitk(path) if _uses_sitk(suffix, reader) else _read_nibabel(path, suffix)
    affine = _usable(raw.affine, path)
    try:
        data, affine = canonical(raw.data, affine)
    except OrientationError as error:
        raise VolumeError(f"{path} {_NOT_INVERTIBLE}") from error
    channels = np.moveaxis(data, 3, 0) if data.ndim == 4 else data[None]
    parts = [filled(x_DHW, raw.slope, raw.inter) for x_DHW in channels]
    data_CDHW = parts[0][None] if len(parts) == 1 else np.stack(parts)
    return Volume(data_CDHW, affine, voxel_sizes(affine), str(path))


def read_header(path: str | Path) -> Header:
    """Read geometry and type of one file without its intensities. Errors: VolumeError, as ``read_volume``."""
    path, reference = Path(path), parse(path)
    if reference.part:
        return part_header(reference)
    suffix = check_file(path, "auto")
    with reading(path):
        if suffix == ".npy":
            array = npy_values(path, mmap=True)
            return _header((*array.shape[1:], 1, array.shape[0]), np.eye(4), array.dtype, path)
        if _uses_sitk(suffix, "auto"):
            return _sitk_header(path)
        if suffix in NIFTI:
            header = nifti_header(path)
            affine = header.get_best_affine()
        else:
            image = loaded(path)
            header, affine = image.header, image.affine
        found = _header(header.get_data_shape(), affine, header.get_data_dtype(), path)
        found = replace(found, offset=int(header.get_data_offset()) if hasattr(header, "get_data_offset") else 0)
        return _with_forms(found, header) if isinstance(header, nib.Nifti1Header) else found


def write_volume(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write ``.nii`` or ``.nii.gz``: data (D, H, W) or (C, D, H, W), affine (4, 4) voxel -> mm RAS.

    Atomic; the same input gives the same bytes. float64 becomes float32, bool uint8; several channels are stored
    as a NIfTI vector (D, H, W, 1, C), which ``read_volume`` understands. Errors: VolumeError for another suffix or
    number of axes, UserError where the disk is full.
    """
    path, data = Path(path), np.asarray(data)
    if suffix_of(path) not in NIFTI:
        raise VolumeError(f"{path} cannot be written: volumes are written as .nii or .nii.gz; change the name")
    if data.ndim not in (3, 4):
        raise VolumeError(f"{path} cannot be written: data has shape {data.shape}; give (D, H, W) or (C, D, H, W)")
    image = nib.Nifti1Image(storable(data), None)
    image.header.set_xyzt_units("mm")
    if data.ndim == 4 and data.shape[0] > 1:
        image.header.set_intent("vector")
    image.set_sform(np.asarray(affine, float), 1)
    image.set_qform(np.asarray(affine, float), 1)
    content = image.to_bytes()
    if suffix_of(path) == ".nii.gz":
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=packed, mtime=0) as stream:
            stream.write(content)
        content = packed.getvalue()
    write_atomic(path, lambda file: file.write(content))


def canonical(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip the first three axes to the nearest RAS; nothing is interpolated, oblique stays oblique."""
    turn = io_orientation(affine)
    turned = apply_orientation(data, turn)
    return turned, affine @ inv_ornt_aff(turn, data.shape[:3])


def _uses_sitk(suffix: str, reader: str) -> bool:
    return suffix in SITK or (reader == "sitk" and suffix != ".npy")


def _read_nibabel(path: Path, suffix: str) -> _Raw:
    if suffix in NIFTI:
        return _read_nifti(path)
    image = loaded(path)
    _refuse_kind(image.header.get_data_dtype(), path)
    refuse_short(path, image.header)
    affine = in_mm(image.affine, image.header)
    proxy: Any = image.dataobj
    if hasattr(proxy, "get_unscaled"):
        return _Raw(spatial(np.asanyarray(proxy.get_unscaled()), path), affine, proxy.slope, proxy.inter)
    return _Raw(spatial(np.asanyarray(proxy), path), affine)


def _read_nifti(path: Path) -> _Raw:
    """A NIfTI file in memory; its voxels stay where they are."""
    header = nifti_header(path, check=True)
    shape, dtype, needed = header.get_data_shape(), header.get_data_dtype(), nifti_bytes(header)
    _refuse_kind(dtype, path)
    content = unpacked(path, needed)
    if len(content) < needed:
        raise VolumeError(f"{path} is truncated ({len(content)} of {needed} bytes); {AGAIN}")
    slope, inter = header.get_slope_inter()
    data = np.ndarray(shape, dtype, content, int(header.get_data_offset()), order="F")
    scale = (1.0, 0.0) if slope is None else (slope, inter or 0.0)
    return _Raw(spatial(data, path), in_mm(header.get_best_affine(), header), *scale)


def _refuse_kind(dtype: np.dtype, path: Path) -> None:
    if dtype.kind not in "biuf":
        raise VolumeError(f"{path} holds {_kind(dtype)} values; convert it to a scalar intensity image")


def _read_sitk(path: Path) -> _Raw:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    _refuse_more_than_fits(path)
    stated = refuse_damaged(path) if suffix_of(path) in TEXT_HEADERS else None
    image = sitk.ReadImage(str(path), imageIO=_sitk_io(path))
    if stated not in (None, _sitk_bytes(image)):
        raise VolumeError(f"{path} has a header that can be read in two ways; {CONVERT}")
    if "complex" in image.GetPixelIDTypeAsString():
        raise VolumeError(f"{path} holds complex values; convert it to a scalar intensity image")
    data = sitk.GetArrayFromImage(image)  # a view would outlive its image
    if suffix_of(path) in (*NIFTI, ".gipl", ".gipl.gz"):
        _refuse_torn(path, image)
    components = image.GetNumberOfComponentsPerPixel()
    axes = list(range(image.GetDimension()))[::-1]
    data = data.transpose([*axes, len(axes)] if components > 1 else axes)
    if components > 1:
        data = data.reshape(*data.shape[:3], *([1] if len(axes) == 3 else data.shape[3:-1]), components)
    return _Raw(spatial(data, path), _sitk_mm(path, _sitk_affine(image, image.GetDimension())))


def _refuse_more_than_fits(path: Path) -> None:
    """Refuse a header that states more voxels than its file could hold, packed, before memory is asked for."""
    if suffix_of(path) not in SITK or suffix_of(path) in TEXT_HEADERS:
        return
    header = _sitk_header(path)
    needed = math.prod(header.shape) * np.dtype(header.dtype).itemsize
    size = path.stat().st_size
    if size * MOST < needed:
        raise VolumeError(f"{path} is truncated ({size} bytes for {needed} bytes of voxels); {AGAIN}")


def _sitk_io(path: Path) -> str:
    """SimpleITK's reader of a format, which it tells by suffixes in lower case; "" where it may choose."""
    suffix = suffix_of(path)
    if suffix == ".gipl.gz" and not path.name.endswith(suffix):
        raise VolumeError(f"{path} cannot be unpacked under this name; end it in .gipl.gz, in lower case")
    return _SITK_IO.get(suffix.removesuffix(".gz"), "")


def _sitk_mm(path: Path, affine: np.ndarray) -> np.ndarray:
    """The affine that SimpleITK gives, or for NIfTI in other units, of which it has rules of its own, ours."""
    suffix = suffix_of(path)
    if suffix not in (*NIFTI, *PAIRS, *PAIRS.values()):
        return affine
    header = nifti_header(path) if suffix in NIFTI else loaded(path).header
    other = isinstance(header, nib.Nifti1Header) and millimetres(header)[1]
    return in_mm(np.asarray(header.get_best_affine()), header) if other else affine


def _sitk_bytes(image: Any) -> int:
    """Bytes of all voxels."""
    return int(math.prod(image.GetSize()) * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent())


def _refuse_torn(path: Path, image: Any) -> None:
    """SimpleITK fills what a torn file lacks with zeros: verify the gzip stream and that all voxels are there."""
    needed = nifti_bytes(nifti_header(path)) if suffix_of(path) in NIFTI else _sitk_bytes(image)
    held = len(unpacked(path, needed))
    if held < needed:
        raise VolumeError(f"{path} is truncated ({held} of {needed} bytes); {AGAIN}")


def _sitk_affine(image: Any, ndim: int) -> np.ndarray:
    """Affine (4, 4) voxel -> mm RAS of a SimpleITK image or reader, which thinks in LPS."""
    affine = np.eye(4)
    n = min(3, ndim)
    direction = np.array(image.GetDirection(), float).reshape(ndim, ndim)[:n, :n]
    affine[:n, :n] = direction * np.array(image.GetSpacing(), float)[:n]
    affine[:n, 3] = np.array(image.GetOrigin(), float)[:n]
    return _LPS @ affine


def _sitk_header(path: Path) -> Header:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_sitk_io(path))
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    components = reader.GetNumberOfComponents()
    shape = tuple(int(n) for n in reader.GetSize())
    shape = (*shape, *[1] * (4 - len(shape)), components) if components > 1 else shape
    kind = _sitk_type(sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    return _header(shape, _sitk_affine(reader, reader.GetDimension()), kind, path)


def _sitk_type(words: str) -> str:
    """numpy's name of a SimpleITK pixel type such as "vector of 16-bit unsigned integer"."""
    bits = words.split("-bit")[0].split()[-1]
    kind = "float" if "float" in words else "uint" if "unsigned" in words else "int"
    return "complex" if "complex" in words else f"{kind}{bits}"


def _header(shape: Any, affine: np.ndarray, dtype: Any, path: Path) -> Header:
    """Assemble a Header without forms."""
    sizes = tuple(int(n) for n in shape)
    if any(n < 0 for n in sizes):
        raise VolumeError(f"{path} has shape {sizes}, which cannot be, so its header is corrupt; {AGAIN}")
    affine = _usable(np.asarray(affine, float), path)
    a, b, c = (float(s) for s in voxel_sizes(affine))
    ndim = len(sizes)
    while ndim > 3 and sizes[ndim - 1] == 1:
        ndim -= 1
    sides = aff2axcodes(affine)
    if None in sides:
        raise VolumeError(f"{path} {_NOT_INVERTIBLE}")
    return Header(sizes, (a, b, c), "".join(sides), affine, None, None, 0, 0, str(dtype), ndim)


def _with_forms(found: Header, header: Any) -> Header:
    """What only a NIfTI header knows: both forms and its units; all lengths in mm."""
    forms = [header.get_sform(coded=True), header.get_qform(coded=True)]
    sform, qform = (None if form is None else in_mm(np.asarray(form, float), header) for form, _ in forms)
    affine = in_mm(found.affine, header)
    a, b, c = (float(s) for s in voxel_sizes(affine))
    return replace(
        found,
        affine=affine,
        spacing=(a, b, c),
        sform=sform,
        qform=qform,
        sform_code=int(forms[0][1]),
        qform_code=int(forms[1][1]),
        units=millimetres(header)[1],
    )


def _usable(affine: np.ndarray, path: Path) -> np.ndarray:
    """The affine, refused where it is not finite or squashes an axis."""
    affine = np.asarray(affine, float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise VolumeError(f"{path} {_NOT_INVERTIBLE}")
    return affine


def _kind(dtype: np.dtype) -> str:
    return "complex" if dtype.kind == "c" else "RGB" if dtype.fields else str(dtype)
