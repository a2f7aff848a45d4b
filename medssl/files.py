"""Files that are whole or absent, and folders that one process at a time writes to."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from medssl.errors import BusyError, UserError

TEMPORARY_SUFFIX = ".tmp"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
FOREIGN_AGE_S = 24 * 3600.0
"""A temporary of another machine counts as left behind after a day."""


def write_atomic(
    path: Path,
    content: bytes | str | Callable[[BinaryIO], object],
    remedy: str = "choose another folder",
    *,
    durable: bool = False,
) -> Path:
    """Write ``path`` under a temporary name in the same folder and rename it when it is complete; returns ``path``.

    content: bytes, text (UTF-8), or what fills a binary file. Whatever ends the writing (an error, Ctrl-C), nothing
    stays behind. The temporary is named after the machine and the process, so that :func:`is_abandoned` can tell a
    live one from one left by a killed process. durable: flush to the disk before the rename (checkpoints).
    Errors: UserError where ``path`` is a folder, the disk is full or the folder cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file name")
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with said(path, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content.encode("utf-8") if isinstance(content, str) else content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def make_folder(path: Path, remedy: str = "choose another folder") -> Path:
    """Make a folder with its parents; UserError where a file is in the way or it cannot be made."""
    with said(path, remedy):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def said(path: Path, remedy: str) -> Iterator[None]:
    """Turn a full disk and a place that cannot be written into one sentence; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"no space left in {path.parent} while writing {path.name}; free some space or {remedy}"
            ) from error
        if error.errno in _FORBIDDEN:
            reason = (error.strerror or "permission denied").lower()
            raise UserError(f"{path} cannot be written ({reason}); allow writing there or {remedy}") from error
        raise


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path``, which the system frees when this process ends in whatever way.

    what: what is written, for the message. Errors: BusyError where another process holds it. On a system or a
    file server without locks nothing is held.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    make_folder(path.parent)
    while True:
        with said(path, "choose another folder"):
            file = path.open("a")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.close()
                raise BusyError(
                    f"another process is writing {what}; wait until it has finished, or choose another place"
                ) from None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                break
        file.close()  # its last holder removed it between our opening and our lock
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine is inside; the lock file ``path`` stays.

    On a system or a file server without locks, and where the folder cannot be written, nobody waits.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.lockf(stack.enter_context(path.open("a")), fcntl.LOCK_EX)
        yield


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
