"""Files that are whole or absent: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from medssl.errors import UserError

TEMPORARY_SUFFIX = ".tmp"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
FOREIGN_AGE_S = 24 * 3600.0
"""A temporary of another machine counts as left behind after a day."""


def write_atomic(path: Path, write: Callable[[BinaryIO], object], remedy: str = "choose another folder") -> None:
    """Let ``write`` fill a temporary file beside ``path`` and rename it to ``path`` when it is complete.

    Whatever ends the writing (an error, Ctrl-C), nothing stays behind. The temporary is named after the machine
    and the process, so that :func:`is_abandoned` can tell a live one from one left by a killed process.
    Errors: UserError where ``path`` is a folder, the disk is full or the folder cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file name")
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"no space left in {path.parent} while writing {path.name}; free some space or {remedy}"
            ) from error
        if error.errno in _FORBIDDEN:
            reason = error.strerror or "permission denied"
            raise UserError(f"{path} cannot be written ({reason}); allow writing there or {remedy}") from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_abandoned(temporary: Path) -> bool:
    """Whether the writer of a temporary is gone: its process on this machine, or a day without change elsewhere."""
    parts = temporary.name.rsplit(".", 4)
    if os.name == "posix" and len(parts) == 5 and parts[1] == _host() and parts[2].isdigit():
        return not _is_alive(int(parts[2]))
    try:
        return time.time() - temporary.stat().st_mtime > FOREIGN_AGE_S
    except FileNotFoundError:
        return False


def _host() -> str:
    """Name of this machine, without dots."""
    return socket.gethostname().split(".")[0] or "localhost"


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine still runs (one of another user counts)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
