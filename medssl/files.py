"""Files that are whole or absent, and folders that one process at a time writes to."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import socket
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from medssl.errors import BusyError, UserError

TEMPORARY_SUFFIX = ".tmp"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_SHORT = re.compile(r"\d+ requested and \d+ written")
"""What numpy says, without a number of the error, of a disk that took a part of an array."""
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
_BROKEN = (errno.EIO, errno.ENODEV, errno.ENXIO, getattr(errno, "ESTALE", errno.EIO))
BROKEN_ARRAYS = (
    OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises of a damaged .npz file, depending on the byte."""
_HEAD = 1 << 14
"""Bytes of a file by which its kind is told."""
FOREIGN_AGE_S = 24 * 3600.0
"""A temporary of another machine counts as left behind after a day."""


def write_atomic(
    path: Path,
    content: bytes | str | Callable[[BinaryIO], object],
    remedy: str = "choose another folder",
    *,
    durable: bool = False,
    replace: bool = True,
) -> Path:
    """Write ``path`` under a temporary name in the same folder and rename it when it is complete; returns ``path``.

    content: bytes, text (UTF-8), or what fills a binary file. Whatever ends the writing (an error, Ctrl-C), nothing
    stays behind. The temporary is named after the machine and the process, so that :func:`is_abandoned` can tell a
    live one from one left by a killed process. durable: flush to the disk before the rename (checkpoints).
    replace: False where a file that is there, or that another process writes meanwhile, must stay.
    What fills the file may be any library: an error of the disk that it hides is raised all the same.
    Errors: UserError where ``path`` is a folder or a device, the disk is full or fails, or the folder cannot be
    written.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file name")
    if path.exists() and not path.is_file():  # the rename would put a file in the place of a device or a pipe
        raise UserError(f"{path} is a device or a pipe, which a file would replace; give a file name")
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with said(path, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                if callable(content):
                    _fill(file, content)
                else:
                    file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                _claim(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Output:
    """A kind of file that a command writes.

    what: such as "a checklist". begins: by the suffix of its name, a pattern that the first bytes of every such file
    match.
    """

    what: str
    begins: Mapping[str, re.Pattern[bytes]]


def refuse_foreign(path: Path, kind: Output, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse an output that would replace anything but an earlier output of the same kind, or an empty file.

    inputs: files that the command reads, which are never its output. Errors: UserError for a suffix of another kind,
    an input, and a file that does not begin as the kind does.
    """
    if path.is_dir():  # told where it is written
        return
    if path.suffix.lower() not in kind.begins:
        *some, last = kind.begins
        listed = f"{', '.join(some)} or {last}" if some else last
        raise UserError(f"{path.name} has the ending '{path.suffix}'; {kind.what} is written as {listed}")
    if any(os.path.realpath(path) == os.path.realpath(given) for given in inputs):
        raise UserError(f"{path} is read by this command, so it is no place for its output; choose another one with -o")
    if not path.is_file():
        return
    start = b"?"  # of a file that may not be read
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(_HEAD)
    if start and not kind.begins[path.suffix.lower()].match(start):
        raise UserError(
            f"{path} exists and is not {kind.what} that medssl wrote, so it is kept; choose another place with -o, or "
            "move it away"
        )


def _claim(temporary: Path, path: Path) -> None:
    """Give a whole file its name, where no other file has it. Errors: UserError where one has."""
    taken = f"{path} exists; another process wrote it meanwhile, so name another file, or add --overwrite"
    try:
        os.link(temporary, path)
        return
    except FileExistsError:
        raise UserError(taken) from None
    except OSError:  # a file system without links: take the name first, then fill it
        pass
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise UserError(taken) from None
    os.replace(temporary, path)


def is_encodable(name: str) -> bool:
    """Whether a name is text in UTF-8, and not bytes that only the file system knows."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def make_folder(path: Path, remedy: str = "choose another folder") -> Path:
    """Make a folder with its parents; UserError where a file is in the way or it cannot be made."""
    with said(path, remedy):
        path.mkdir(parents=True, exist_ok=True)
    return path


def append_text(path: Path, text: str, remedy: str = "choose another folder") -> None:
    """Add text (UTF-8, line ends as they are) at the end of a file; UserError as for ``write_atomic``."""
    with said(path, remedy), path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


@contextlib.contextmanager
def said(path: Path, remedy: str) -> Iterator[None]:
    """Turn a disk that is full or fails, and a place that cannot be written, into one sentence; other errors pass."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        sentence = no_room(error, path, remedy)
        if error.errno in _BROKEN:
            sentence = f"the disk failed while {path} was written ({reason}); check the disk or {remedy}"
        elif error.errno in _FORBIDDEN:
            sentence = f"{path} cannot be written ({reason}); allow writing there or {remedy}"
        if sentence is None:
            raise
        raise UserError(sentence) from error


def no_room(error: OSError, path: Path, remedy: str) -> str | None:
    """The sentence for a full disk or a limit of the size of files; None for another error."""
    if error.errno in _FULL or (error.errno is None and _SHORT.search(str(error))):
        return f"no space left in {path.parent} while writing {path.name}; free some space or {remedy}"
    if error.errno == errno.EFBIG:
        return (
            f"{path} became larger than this disk, or the limit of this account, allows for one file; raise the limit "
            f"(ulimit -f) or {remedy}"
        )
    return None


class _Writer(io.BufferedIOBase):
    """Passes all bytes on to a file, and remembers the first error of the disk.

    It is no file of the system, so that no library writes past it: numpy would write an array through C, where a full
    disk has no number, or is not noticed at all where the last part of the array is small.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file, self.failure, self.name = file, cast("OSError | None", None), file.name

    def _tried(self, step: Callable[..., int], *arguments: Any) -> int:
        try:
            return step(*arguments)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def write(self, content: Any) -> int:
        return self._tried(self.file.write, content)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._tried(self.file.seek, place, whence)

    def truncate(self, size: int | None = None) -> int:
        return self._tried(self.file.truncate, size)

    def flush(self) -> None:
        self._tried(lambda: self.file.flush() or 0)

    def tell(self) -> int:
        return self.file.tell()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: the file is closed by whoever opened it."""


def _fill(file: BinaryIO, content: Callable[[BinaryIO], object]) -> None:
    """Let ``content`` write; an error of the disk counts, whatever became of it on its way through a library."""
    writer = _Writer(file)
    try:
        content(cast(BinaryIO, writer))
    except Exception as error:
        if writer.failure is not None and error is not writer.failure:
            raise writer.failure from error
        raise
    if writer.failure is not None:
        raise writer.failure


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


def is_held(path: Path) -> bool:
    """Whether another process of this machine holds the lock file ``path`` (see ``exclusive``); nothing is changed."""
    try:
        import fcntl

        with path.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN) and path.is_file()
    except ImportError:  # Windows
        return False
    return False


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
