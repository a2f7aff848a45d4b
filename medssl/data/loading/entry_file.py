"""The file of a cache entry: a .npy file whose header also holds checksums, in a comment that numpy skips.

``# VALUES SOURCE MARK TAG``. VALUES: CRC-32 of the numbers, in hex. SOURCE: of the scan's files that they were made
from. MARK: what copies of the scan share (``medssl.data.manifest.copies.mark``), "-" for none. TAG: CRC-32 of the
entry's key, its type and shape and the other three, so that an entry under another name, or with a changed header, is
noticed before its numbers are read.
"""

from __future__ import annotations

import math
import os
import re
import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from medssl.data.manifest.copies import mark
from medssl.data.volumes.checksum import crc32

DTYPES = {"float32": "<f4", "float16": "<f2"}
"""Types of entries, and how their files spell them."""
HEAD = 192
"""Bytes before the numbers of every entry."""
_COMMENT = b"#"
_NO_MARK = "-"
_START = npy.magic(1, 0) + struct.pack("<H", HEAD - 10)
_FORM = re.compile(
    re.escape(_START)
    + rb"\{'descr': '(?P<descr><f[24])', 'fortran_order': False, "
    + rb"'shape': \((?P<c>\d+), (?P<d>\d+), (?P<h>\d+), (?P<w>\d+)\), \}\s*"
)
_OLD = "no checksum (written by an older medssl)"
_HEADER = "a damaged header"
_LENGTH = "a wrong length"
_VALUES = "changed bytes (wrong checksum)"


class Layout(NamedTuple):
    """Shape (C, D, H, W), type and first byte of the values in an entry, their CRC-32, that of the scan's files, and
    the mark of the scan."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    offset: int
    values: int
    source: int
    mark: str

    @property
    def end(self) -> int:
        """Bytes that the file must have."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def write_entry(file: BinaryIO, x_CDHW: np.ndarray, key: str, source: int) -> None:
    """Write an entry. x_CDHW: C-contiguous, of a type in ``DTYPES``. source: CRC-32 of the scan's files."""
    file.write(header(x_CDHW, key, crc32(x_CDHW), source, mark(x_CDHW)))
    file.write(x_CDHW.reshape(-1).view(np.uint8).data)


def header(x_CDHW: np.ndarray, key: str, values: int, source: int, shared: str = "") -> bytes:
    """The first ``HEAD`` bytes of an entry. values: CRC-32 of the numbers, of which only type and shape are taken.

    shared: the mark of the scan.
    """
    described = npy.header_data_from_array_1_0(x_CDHW)
    text = "".join(["{", *(f"'{name}': {described[name]!r}, " for name in sorted(described)), "}"]).encode("latin-1")
    head = _START + text + b"%s%08x %08x %s " % (_COMMENT, values, source, (shared or _NO_MARK).encode())
    head += b"%08x" % _tag(head, key)
    return head.ljust(HEAD - 1) + b"\n"


def layout(entry: Path | str, dtype: str = "float32") -> Layout | None:
    """What an entry holds, by its header and length; None where it is absent or these are not as they were written."""
    found = _opened(entry, dtype)
    return found if isinstance(found, Layout) else None


def header_fault(entry: Path | str, dtype: str = "float32") -> str:
    """What is wrong with the header or the length of an entry, such as "a wrong length"; "" for nothing."""
    found = _opened(entry, dtype)
    return found if isinstance(found, str) else ""


def fault(entry: Path | str, dtype: str = "float32") -> str:
    """What is wrong with an entry, all of which is read; "" where it is absent or intact."""
    found = _opened(entry, dtype)
    if not isinstance(found, Layout):
        return found or ""
    try:
        return "" if is_intact(np.memmap(entry, np.uint8, "r", found.offset), found) else _VALUES
    except (OSError, ValueError):  # removed in between
        return ""


def memory_map(entry: Path, dtype: str = "float32") -> np.memmap | None:
    """An entry as read-only memory map whose numbers were checked; None where it is absent or damaged."""
    found = layout(entry, dtype)
    try:
        stored = None if found is None else np.memmap(entry, found.dtype, "r", found.offset, found.shape)
    except (OSError, ValueError):  # removed in between
        return None
    return stored if stored is not None and found is not None and is_intact(stored, found) else None


def is_intact(values: np.ndarray, found: Layout) -> bool:
    """Whether numbers are those that the header was written for."""
    return crc32(values) == found.values


def _opened(entry: Path | str, dtype: str) -> Layout | str | None:
    """The layout, or what is wrong; None where the file is absent."""
    try:
        file = os.open(entry, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        found = _read(os.read(file, HEAD), os.path.basename(entry)[:-4], DTYPES[dtype])
        if isinstance(found, Layout) and os.lseek(file, 0, os.SEEK_END) != found.end:
            return _LENGTH
        return found
    except OSError:
        return _HEADER
    finally:
        os.close(file)


def _read(head: bytes, key: str, spelled: str) -> Layout | str:
    """A header against the name of its entry and the type that it must have."""
    text, comment, sums = head.partition(_COMMENT)
    parsed = _parsed(text, spelled)
    if parsed is None:
        return _HEADER
    if not comment:
        return _OLD
    try:
        values, source, shared, tag = sums.split()
        if len(head) == HEAD and int(tag, 16) == _tag(head[: head.rindex(tag)], key):
            name = shared.decode().removeprefix(_NO_MARK)
            return Layout(*parsed, HEAD, int(values, 16), int(source, 16), name)
    except ValueError:
        pass
    return _HEADER


@lru_cache(maxsize=256)
def _parsed(head: bytes, spelled: str) -> tuple[tuple[int, int, int, int], np.dtype] | None:
    """Shape and type by a header without its checksums; entries of one cohort have the same, so it is parsed once."""
    found = _FORM.fullmatch(head)
    if found is None or found["descr"].decode() != spelled:
        return None
    c, d, h, w = (int(found[name]) for name in "cdhw")
    return (c, d, h, w), np.dtype(spelled)


def _tag(head: bytes, key: str) -> int:
    """Checksum of all that stands before it in the header, and of the key."""
    return crc32(key.encode(), crc32(head))
