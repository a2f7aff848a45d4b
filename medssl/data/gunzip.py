"""Unpacks gzip: by libdeflate where it is installed (3 to 4 times as fast as zlib), by zlib where it is not."""

from __future__ import annotations

import zlib
from types import ModuleType

libdeflate: ModuleType | None
try:
    import deflate as libdeflate  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # a platform without its wheel
    libdeflate = None

MAGIC = b"\x1f\x8b"
_MOST = 1040
"""Deflate packs at most 1032 bytes into one, so a stated size beyond that is no size."""


def gunzip(content: bytes) -> bytes | bytearray:
    """All members of a gzip file, checksums verified; zeros behind the last one are padding.

    Errors: EOFError where the file ends early, zlib.error for a wrong checksum or anything else that is no gzip.
    """
    quick = _one_member(content)
    return _any_members(content) if quick is None else quick


def _one_member(content: bytes) -> bytes | bytearray | None:
    """By libdeflate, in one step; None where the file is not one whole member (or libdeflate is not there).

    A single member ends with the checksum and the size of what came out; with several, libdeflate would stop after
    the first, and these would be the last one's.
    """
    size = int.from_bytes(content[-4:], "little")
    if libdeflate is None or not 0 < size <= _MOST * len(content):
        return None
    try:
        out: bytes | bytearray = libdeflate.gzip_decompress(content, size)
    except (libdeflate.DeflateError, MemoryError):
        return None
    whole = len(out) == size and libdeflate.crc32(out) == int.from_bytes(content[-8:-4], "little")
    return out if whole else None


def _any_members(content: bytes) -> bytes:
    """By zlib, member by member."""
    parts: list[bytes] = []
    rest = content
    while rest:
        stream = zlib.decompressobj(31)
        parts.append(stream.decompress(rest))
        if not stream.eof:
            raise EOFError("the gzip stream ends before its end mark")
        rest = stream.unused_data.lstrip(b"\0")
    return parts[0] if len(parts) == 1 else b"".join(parts)
