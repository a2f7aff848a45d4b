"""CRC-32, by libdeflate where it is installed (29 GB/s on one core where zlib does 1.8), else by zlib."""

from __future__ import annotations

import ctypes
import zlib
from pathlib import Path

import numpy as np

from medssl.data.volumes.gunzip import libdeflate

_PIECE = 1 << 22
"""Bytes of a file that are read at a time."""

_fast = getattr(libdeflate, "libdeflate_crc32", None)
if _fast is not None:
    _fast.restype = ctypes.c_uint32
    _fast.argtypes = [ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t]


def crc32(content: bytes | np.ndarray, start: int = 0) -> int:
    """CRC-32 (as in gzip and zip) of bytes or of the memory of a C-contiguous array; other threads run meanwhile.

    start: checksum of what comes before.

    >>> f"{crc32(b'123456789'):08x}", crc32(b"6789", crc32(b"12345")) == crc32(b"123456789")
    ('cbf43926', True)
    """
    if _fast is None or isinstance(content, bytes):
        return zlib.crc32(content if isinstance(content, bytes) else np.ascontiguousarray(content).data, start)
    whole = np.ascontiguousarray(content)
    return int(_fast(start, whole.ctypes.data, whole.nbytes))


def file_crc32(path: str | Path, start: int = 0) -> int:
    """CRC-32 of the bytes of a file. Errors: OSError where it cannot be read."""
    room = np.empty(_PIECE, np.uint8)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(room.data):
            start = crc32(room[:count], start)
    return start
