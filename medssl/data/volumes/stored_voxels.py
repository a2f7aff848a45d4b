"""Whether the voxels of a MetaImage or NRRD file are all there and sound, before a library reads them.

The library fills what a damaged file lacks with whatever is in memory, and passes over wrong checksums.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np

from medssl.data.volumes.gunzip import MOST, gunzip
from medssl.data.volumes.image_files import suffix_of
from medssl.data.volumes.metaimage import read_metaimage
from medssl.data.volumes.nrrd import read_nrrd
from medssl.data.volumes.text_header import TextHeader
from medssl.errors import VolumeError

_READERS = {**dict.fromkeys((".mha", ".mhd"), read_metaimage), **dict.fromkeys((".nrrd", ".nhdr"), read_nrrd)}
TEXT_HEADERS = tuple(_READERS)
"""Formats whose header is text, and may name the file of the voxels."""
_PIECE = 1 << 22
_REMEDY = "copy or convert it again, or drop its row"


def text_header(path: Path) -> TextHeader:
    """Read the header of a MetaImage or NRRD file. Errors: VolumeError where it breaks a rule of the format."""
    return _READERS[suffix_of(path)](path)


def refuse_damaged(path: Path) -> int:
    """Hold the bytes of the voxels against the header: their number, and of packed ones the checksum as well.

    Returns the number of bytes of the unpacked voxels. Errors: VolumeError where bytes are missing, left over, or not
    those that were packed.
    """
    header = text_header(path)
    held = header.voxels.stat().st_size - (header.offset or 0)
    if header.packed:
        _refuse_damaged_packed(path, header, held)
    elif held < header.needed:
        raise VolumeError(f"{path} is truncated ({held} of {header.needed} bytes of voxels); {_REMEDY}")
    elif held > header.needed and header.offset is not None:
        _refuse_surplus(path, f"{held}", header)
    return header.needed


def _refuse_damaged_packed(path: Path, header: TextHeader, held: int) -> None:
    """The same for packed voxels, of which the file holds ``held`` bytes."""
    stated = held if header.packed_bytes is None else header.packed_bytes
    if held < stated:
        raise VolumeError(f"{path} is truncated ({held} of {stated} bytes of packed voxels); {_REMEDY}")
    if held > stated:
        raise VolumeError(f"{path} has {held} bytes of packed voxels, but its header states {stated}; {_REMEDY}")
    if held * MOST < header.needed:
        raise VolumeError(f"{path} is truncated ({held} bytes for {header.needed} bytes of voxels); {_REMEDY}")
    with open(header.voxels, "rb") as file:
        file.seek(header.offset or 0)
        content = np.frombuffer(file.read(held), np.uint8)
    try:
        unpacked = len(gunzip(content, header.needed)) if header.packed == "gzip" else _inflated(content, header.needed)
    except OverflowError:
        _refuse_surplus(path, f"more than {header.needed}", header)
    except EOFError as error:
        raise VolumeError(f"{path} is truncated (its packed voxels end early); {_REMEDY}") from error
    except zlib.error as error:
        raise VolumeError(f"{path} cannot be read: its packed voxels are damaged ({error}); {_REMEDY}") from error
    if unpacked < header.needed:
        raise VolumeError(f"{path} is truncated ({unpacked} of {header.needed} bytes of voxels); {_REMEDY}")


def _inflated(content: np.ndarray, most: int) -> int:
    """Bytes that a zlib or gzip stream unpacks to, its checksum verified. Errors: those of ``gunzip``."""
    stream = zlib.decompressobj(47)
    rest, length = content.tobytes(), 0
    while not stream.eof:
        piece = stream.decompress(rest, _PIECE)
        rest = stream.unconsumed_tail
        length += len(piece)
        if length > most:
            raise OverflowError("more bytes than there may be")
        if not piece and not rest and not stream.eof:
            raise EOFError("the stream ends before its end mark")
    if stream.unused_data:
        raise zlib.error("bytes follow its end mark")
    return length


def _refuse_surplus(path: Path, held: str, header: TextHeader) -> NoReturn:
    shape = " x ".join(map(str, header.sizes))
    raise VolumeError(
        f"{path} holds {held} bytes of voxels, but its header states {shape} of {header.bytes_each} bytes "
        f"({header.needed}); correct its header, or drop its row"
    )
