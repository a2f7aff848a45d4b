"""Unpacks gzip: by libdeflate where it is installed (twice as fast as zlib), by zlib where it is not.

libdeflate comes with the package ``deflate``, whose own functions return fresh memory in pages of 4 KiB: their faults
cost half as much as the unpacking. So the library inside it is called in its place, and writes into memory that is
kept. It also says how many bytes it took, so that several members need no second checksum, and lets other threads run.
"""

from __future__ import annotations

import ctypes
import zlib

import numpy as np

from medssl.data.volumes.buffers import Rooms

MAGIC = b"\x1f\x8b"
MOST = 1040
"""Deflate packs at most 1032 bytes into one: memory beyond that is never needed."""
_rooms = Rooms(1)


def _library() -> ctypes.CDLL | None:
    """libdeflate, None on a platform without its wheel, or whose wheel hides it."""
    try:
        import deflate  # type: ignore[import-not-found,unused-ignore]

        library = ctypes.CDLL(getattr(deflate, "_deflate", deflate).__file__)
        library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
        library.libdeflate_free_decompressor.argtypes = [ctypes.c_void_p]
        place, size = ctypes.c_void_p, ctypes.c_size_t
        library.libdeflate_gzip_decompress_ex.argtypes = [place, place, size, place, size, place, place]
    except (ImportError, OSError, AttributeError):
        return None
    return library


libdeflate = _library()


def gunzip(content: np.ndarray, most: int) -> np.ndarray:
    """All members of a gzip file, bytes in and bytes out, checksums verified; zeros behind a member are padding.

    Errors: EOFError where the file ends early, zlib.error for a wrong checksum or anything else that is no gzip,
    OverflowError where more than ``most`` bytes come out (no more are ever made).
    """
    room = _rooms([min(most, MOST * len(content))], np.uint8)
    made = 0
    rest = content
    while len(rest):
        taken, more = _by_libdeflate(rest, room[made:]) or _by_zlib(rest, room[made:])
        made, rest = made + more, rest[taken:]
        if len(rest) and rest[0] == 0:
            rest = rest[np.argmax(rest != 0) :] if rest.any() else rest[:0]
    return room[:made]


def _by_libdeflate(content: np.ndarray, room: np.ndarray) -> tuple[int, int] | None:
    """Unpack one member into ``room``; bytes taken and made, None where something is wrong (zlib then says what)."""
    if libdeflate is None:
        return None
    taken, made = ctypes.c_size_t(), ctypes.c_size_t()
    worker = libdeflate.libdeflate_alloc_decompressor()
    if worker is None:
        return None
    source, into = (content.ctypes.data, len(content)), (room.ctypes.data, len(room))
    counts = ctypes.byref(taken), ctypes.byref(made)
    wrong = libdeflate.libdeflate_gzip_decompress_ex(worker, *source, *into, *counts)
    libdeflate.libdeflate_free_decompressor(worker)
    return None if wrong else (taken.value, made.value)


def _by_zlib(content: np.ndarray, room: np.ndarray) -> tuple[int, int]:
    """The same by zlib, in pieces. Errors: those of ``gunzip``."""
    stream = zlib.decompressobj(31)
    out = stream.decompress(content.data, len(room) + 1)
    if len(out) > len(room):
        raise OverflowError("more bytes than there may be")
    if not stream.eof:
        raise EOFError("the gzip stream ends before its end mark")
    room[: len(out)] = np.frombuffer(out, np.uint8)
    return len(content) - len(stream.unused_data), len(out)
