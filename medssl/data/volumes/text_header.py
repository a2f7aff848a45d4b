"""Headers of text in front of voxels (MetaImage, NRRD): read strictly, before a library sees the file.

The library that reads these formats takes a header at its word: names with ``%`` reach C's formatting, a pipe is
waited for, absent voxels become whatever is in memory. So only what every writer writes is let through: a short header
of one entry a line, every key once, plain numbers, and the voxels behind it or in one file beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from medssl.errors import VolumeError, shown

MOST_BYTES = 1 << 16
"""Bytes that a header of text may have."""
MOST_LETTERS = 4096
"""Letters that one line of it may have."""
MOST_AXES = 7
CONVERT = "convert it to NIfTI (such as with SimpleITK or dcm2niix), or drop its row"
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_COUNT = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class TextHeader:
    """Where the voxels of a file are, as its header of text says.

    sizes: numbers of voxels along the axes, the fastest first, and channels where the format counts them apart.
    bytes_each: of one number. voxels: the file that holds them, which may be the file itself. offset: their first byte
    there, None where they are the last bytes. packed: "" (as they are), "zlib" or "gzip". packed_bytes: length of the
    packed bytes where the header states it.
    """

    sizes: tuple[int, ...]
    bytes_each: int
    voxels: Path
    offset: int | None
    packed: str = ""
    packed_bytes: int | None = None

    @property
    def needed(self) -> int:
        """Bytes of all voxels, unpacked."""
        return math.prod(self.sizes) * self.bytes_each


def refuse(path: Path, rule: str) -> NoReturn:
    """Raise the one sentence on a header that breaks a rule."""
    raise VolumeError(f"{path} {rule}; {CONVERT}")


def header_lines(path: Path, content: bytes) -> list[str]:
    """Lines of a header, without line ends; refuses what stands in no line of text."""
    lines = [line.removesuffix(b"\r").decode("utf-8", "surrogateescape") for line in content.split(b"\n")]
    for number, line in enumerate(lines, 1):
        if _CONTROL.search(line):
            refuse(path, f"cannot be read: line {number} of its header holds a character that is no text")
        if len(line) > MOST_LETTERS:
            refuse(path, f"has a line of {len(line)} letters in its header (line {number}), more than {MOST_LETTERS}")
    return lines


def count(path: Path, key: str, value: str) -> int:
    """A whole number of at most 18 digits, without a sign."""
    if not _COUNT.fullmatch(value):
        refuse(path, f"states {key} {_short(value)}, which is no whole number")
    return int(value)


def axes(path: Path, key: str, value: str) -> int:
    """The number of axes."""
    if not _COUNT.fullmatch(value) or not 1 <= int(value) <= MOST_AXES:
        refuse(path, f"states {_short(value) or 'no number of'} axes ({key}), but a file has 1 to {MOST_AXES}")
    return int(value)


def sizes(path: Path, key: str, value: str, ndim: int) -> tuple[int, ...]:
    """One positive number per axis."""
    numbers = tuple(count(path, key, word) for word in value.split())
    if len(numbers) != ndim or 0 in numbers:
        refuse(path, f"states {key} {_short(value)}, but its {ndim} axes need one positive number each")
    return numbers


def refuse_numbers(path: Path, key: str, value: str, many: int, also: Sequence[str] = ()) -> None:
    """Refuse anything but ``many`` plain decimal numbers, or one of the words ``also`` in their place."""
    words = value.split()
    if len(words) != many or not all(_NUMBER.fullmatch(word) or word.lower() in also for word in words):
        refuse(path, f"states {key} {_short(value)}, but it needs {many} decimal number{'s' * (many > 1)}")


def file_beside(path: Path, key: str, name: str) -> Path:
    """The file of the voxels: one plain name in the folder of the header."""
    plain = name.removeprefix("./")
    if not plain or "%" in plain or "/" in plain or "\\" in plain or plain[0] in ".-" or plain.split()[0] == "LIST":
        refuse(path, f'names its voxels "{_short(name)}" ({key}), but they must be in one file beside it')
    return path.with_name(plain)


def _short(value: str) -> str:
    return shown(value if len(value) <= 40 else f"{value[:40]}...")
