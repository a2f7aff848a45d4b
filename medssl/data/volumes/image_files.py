"""Which files are scans that medssl reads, told by their names alone; one test for every reader and every layout.

Of a detached pair (``sub-01.hdr`` and ``sub-01.img``, also packed) the ``.img`` stands for the scan and the ``.hdr`` is
its companion: a walk that took both would count the scan twice. Either member may be named in a manifest.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from medssl.errors import ScanWarning

NIFTI = (".nii", ".nii.gz")
PAIRS = {".hdr": ".img", ".hdr.gz": ".img.gz"}
"""Header of a detached pair -> the file that stands for the scan."""
NIBABEL = (".mgz", ".mgh", ".hdr", ".img", ".img.gz", ".hdr.gz", ".mnc")
SITK = (".mha", ".mhd", ".nrrd", ".nhdr", ".gipl", ".gipl.gz")
SUFFIXES = (*NIFTI, *NIBABEL, *SITK, ".npy")


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Suffix in lower case, both parts of ``.nii.gz``; of another file what stands behind its last dot.

    >>> suffix_of("a/sub-01_T1w.NII.GZ"), suffix_of("notes.txt")
    ('.nii.gz', '.txt')
    """
    name, dot, last = os.path.basename(os.fspath(path)).lower().rpartition(".")
    both = f".{name.rpartition('.')[2]}.{last}" if last == "gz" else ""
    return both if both in SUFFIXES else dot + last if dot else ""


def is_hidden(name: str) -> bool:
    """Whether a name starts with a dot: ``._sub-01_T1w.nii.gz`` holds what macOS keeps beside a file, no scan."""
    return name.startswith(".")


def is_image_name(name: str) -> bool:
    """Whether a file of this name (without folders) is a scan that medssl reads, in any capitals.

    False for hidden files, and for the ``.hdr`` of a pair, whose ``.img`` is the one that counts.

    >>> [is_image_name(n) for n in ("a_T1w.nii.gz", "T1.MGZ", "._a_T1w.nii.gz", "a.hdr", "a.img", "a.json")]
    [True, True, False, False, True, False]
    """
    suffix = suffix_of(name)
    return suffix in SUFFIXES and suffix not in PAIRS and not is_hidden(name)


def stem(path: Path) -> str:
    """The file's name without the suffix of an image, whatever its capitals; the whole name of any other file.

    >>> stem(Path("a/sub-01_T1w.Nii.Gz")), stem(Path("a/sub-1.5mm"))
    ('sub-01_T1w', 'sub-1.5mm')
    """
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix in SUFFIXES else path.name


def other_of_pair(path: Path) -> Path | None:
    """The ``.img`` of a ``.hdr`` and the other way round, as they are on disk or as they should be; None for others.

    >>> other_of_pair(Path("a/T1.hdr")), other_of_pair(Path("a/T1.IMG.GZ")), other_of_pair(Path("a/T1.nii"))
    (PosixPath('a/T1.img'), PosixPath('a/T1.HDR.GZ'), None)
    """
    suffix = suffix_of(path)
    other = {**PAIRS, **{image: header for header, image in PAIRS.items()}}.get(suffix)
    if other is None:
        return None
    capitals = path.name[-len(suffix) :].isupper()
    return path.with_name(stem(path) + (other.upper() if capitals else other))


def data_file(path: Path) -> Path:
    """The file that holds the voxels: of a pair the ``.img``, of all others the file itself."""
    other = other_of_pair(path) if suffix_of(path) in PAIRS else None
    return path if other is None else other


def find_images(folder: Path) -> list[Path]:
    """Scans below a folder, sorted by path, links to absent files included so that they can be named.

    Hidden files and folders are passed over. A folder that is named like an image is no scan, and is searched.
    Links to folders are followed once. A ScanWarning names every folder that may not be opened.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=say_left_out):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found += [Path(place, name) for name in files if is_image_name(name)]
    return sorted(found)


def say_left_out(error: OSError) -> None:
    """A ScanWarning that names a folder which may not be opened."""
    reason = (error.strerror or str(error)).lower()
    warnings.warn(
        f"{error.filename} may not be opened ({reason}), so its scans are left out; change its permissions",
        ScanWarning,
        stacklevel=3,
    )
