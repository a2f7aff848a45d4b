"""What can be opened as a file: no pipes, sockets and devices, named in a manifest or by the header of a scan."""

from __future__ import annotations

import stat
from pathlib import Path

from medssl.errors import VolumeError

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
