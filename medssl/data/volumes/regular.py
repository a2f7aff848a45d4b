"""What can be opened as a file: no pipes, sockets and devices, named in a manifest or by the header of a scan."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from medssl.data.volumes.image_files import suffix_of
from medssl.errors import VolumeError

NAMING = (".mhd", ".mha", ".nhdr", ".nrrd")
"""Formats whose header may name the file of the voxels."""
_NAMED = re.compile(r"^[ \t]*(?:ElementDataFile[ \t]*=|data[ ]?file:)[ \t]*(?P<name>[^\r\n]*?)[ \t\r]*$", re.I | re.M)
_NAMED_WITHIN = 1 << 16
"""Bytes of a header in which it names another file."""
_AXES = re.compile(r"^[ \t]*NDims[ \t]*=[ \t]*([^\r\n]*?)[ \t\r]*$", re.M)
_MOST_AXES = 7
_IRREGULAR = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def refuse_irregular(path: Path, before: str = "") -> None:
    """Refuse what has no end or waits for a writer when it is opened (pipes, sockets, devices); VolumeError."""
    try:
        mode = path.stat().st_mode
    except OSError:  # said where it is opened
        return
    kind = next((name for test, name in _IRREGULAR if test(mode)), "")
    if kind:
        comma = "," if before else ""
        raise VolumeError(
            f"{before}{path}{comma} is {kind}, not a file; give the path of the scan's file, or drop the row"
        )


def voxel_files(path: Path) -> list[Path]:
    """The files in which a header of MetaImage or NRRD says that the voxels are, besides itself."""
    if suffix_of(path) not in NAMING:
        return []
    start = _head(path)
    found = _NAMED.search(start)
    if found is None or found["name"].upper() in ("LOCAL", "") or "%" in found["name"]:
        return []
    names = start[found.end() :].split("\n")[1:] if found["name"].upper().startswith("LIST") else [found["name"]]
    return [path.parent / name.strip() for name in names if name.strip()]


def refuse_axes(path: Path) -> None:
    """Refuse a MetaImage whose number of axes is none: the library that reads it would take the process down."""
    if suffix_of(path) not in (".mhd", ".mha"):
        return
    found = _AXES.search(_head(path))
    if found is not None and not (found[1].isascii() and found[1].isdigit() and 0 < int(found[1][:9]) <= _MOST_AXES):
        raise VolumeError(
            f"{path} states {found[1][:20] or 'no number of'} axes (NDims), but a file has 1 to {_MOST_AXES}; copy or "
            "convert it again, or drop its row"
        )


def _head(path: Path) -> str:
    """The first 64 KiB of a file, up to its first blank line."""
    with open(path, "rb") as file:
        return file.read(_NAMED_WITHIN).split(b"\n\n")[0].decode("utf-8", "surrogateescape")
