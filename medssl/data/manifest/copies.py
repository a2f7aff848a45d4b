"""Which scans are one image under two names: links, copies of a file, the same voxels in another container.

What is compared is the scan as it is trained on, after preprocessing. Its mark is a hash, from which no voxel can be
had back, and the same for every container, type of number, linear scale of intensity and stored orientation. It is
made of some voxels, so that a thousand scans cost less than a second.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from medssl.data.volumes.gunzip import MAGIC
from medssl.data.volumes.image_files import PAIRS, data_file
from medssl.data.volumes.reference import parse

_HEADERS = tuple(PAIRS)
"""Ends of names of files whose voxels are in another file."""
_POINTS = 128
"""Voxels that a mark is made of, in the middle half of every axis, where there is brain."""
_PARTS = 4
"""Hashes of a quarter of the voxels each: one that rounding moves to another step spoils one of them."""
_STEP = 0.05
"""Standard deviations of these voxels that are one step. Another container moves them by less than a thousandth of
one, 16 bits by a hundredth; another acquisition of the same head by several."""
LEAST = 16
"""Values below which equal ones may well be chance (a table with few columns), in a part as in a whole."""
_DIGITS = 12


def mark(x_CDHW: np.ndarray) -> str:
    """The mark of a preprocessed scan, hashes "a-b-c-d" of which copies share one; "" where nothing can be said.

    Values in the middle of the volume, in standard deviations from their mean, are rounded to steps. Where these are
    few (a mask), the image is hashed as a whole. A constant image, or one of less than 16 values, has no mark.
    """
    if x_CDHW.size < LEAST:
        return ""
    values = _middle(x_CDHW)
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.floor((values - values.mean()) / (values.std() * _STEP))
    parts = [steps[k::_PARTS] for k in range(_PARTS)]
    if np.isfinite(steps).all() and all(_tells(part) for part in parts):
        return "-".join(_hashed((x_CDHW.shape, k), part.astype(np.int32)) for k, part in enumerate(parts))
    whole = np.ascontiguousarray(x_CDHW, dtype=np.float32)
    constant = not np.isfinite(whole).all() or whole.min() == whole.max()
    return "" if constant else f"w{_hashed(whole.shape, whole)}"  # never a number to a reader of tables


def _tells(part: np.ndarray) -> bool:
    """Whether a pattern is that of one image: enough values, and enough different ones among them."""
    return len(part) >= LEAST and len(np.unique(part)) >= max(LEAST // 2, len(part) * 3 // 8)


def _hashed(about: object, values: np.ndarray) -> str:
    return hashlib.sha256(repr(about).encode() + values.tobytes()).hexdigest()[:_DIGITS]


def _middle(x_CDHW: np.ndarray) -> np.ndarray:
    """Values at the same places of every scan of a shape; of a memory map only their pages are read."""
    return np.asarray(x_CDHW[_places(x_CDHW.shape)], dtype=np.float64)


@lru_cache(maxsize=16)
def _places(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Indices of up to ``_POINTS`` voxels spread over the middle half of the axes in space."""
    lows = [0, *(n // 4 if n >= 8 and shape[2:] != (1, 1) else 0 for n in shape[1:])]
    sizes = [n - 2 * low for n, low in zip(shape, lows, strict=True)]
    total = int(np.prod(sizes))
    chosen = np.arange(total)
    if total > _POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(total, _POINTS, replace=False))
    return tuple(place + low for place, low in zip(np.unravel_index(chosen, sizes), lows, strict=True))


def copies(marks: Sequence[str], known: Sequence[str]) -> list[tuple[int, int]]:
    """(place in ``marks``, first place in ``known``) of every mark that is the same image as a known one."""
    first: dict[str, int] = {}
    for place, text in enumerate(known):
        for part in filter(None, text.split("-")):
            first.setdefault(part, place)
    found = ((k, [first[part] for part in text.split("-") if part in first]) for k, text in enumerate(marks) if text)
    return [(k, min(places)) for k, places in found if places]


def repeats(marks: Sequence[str]) -> list[tuple[int, int]]:
    """(place, earlier place) of every mark that is the same image as an earlier one."""
    first: dict[str, int] = {}
    found = []
    for k, text in enumerate(marks):
        parts = list(filter(None, text.split("-")))
        earlier = [first[part] for part in parts if part in first]
        if earlier:
            found.append((k, min(earlier)))
        for part in parts:
            first.setdefault(part, k)
    return found


def file_key(cell: str | os.PathLike[str]) -> str:
    """The file behind a cell (and its part), the same through links of either kind; "" where it cannot be found."""
    text = os.fspath(cell)
    if not text:
        return ""
    if "#" not in text and not text.lower().endswith(_HEADERS):  # most scans: one file, and a cohort has many
        place, part = text, "#@None"
    else:
        reference = parse(cell)
        place, part = os.fspath(data_file(reference.file)), f"#{reference.part}@{reference.row}"
    try:
        state = os.stat(place)
    except (OSError, RuntimeError, ValueError):
        return ""
    return f"{state.st_dev}:{state.st_ino}{part}" if state.st_ino else ""


def file_mark(path: Path) -> str:
    """A cheap fingerprint, equal for copies: checksum and length from the end of a gzip file, else of three blocks."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if stream.read(2) == MAGIC and size > 18:
            stream.seek(-8, os.SEEK_END)
            return stream.read(8).hex()
        digest = hashlib.sha256(str(size).encode())
        for part in (0.3, 0.5, 0.7):
            stream.seek(int(part * size))
            digest.update(stream.read(1 << 16))
    return digest.hexdigest()


def same_files(cells: Sequence[object]) -> list[str]:
    """One label for all cells whose files have the same content (links, copies, packed anew), "" for the others.

    Of every file a few kB are read; of those that look alike there, all. What cannot be read, and parts of files, have
    no label.
    """
    texts = [cell if isinstance(cell, str) and cell and not parse(cell).part else "" for cell in cells]
    marks = {text: _or_nothing(file_mark, text) for text in dict.fromkeys(texts) if text}
    often = Counter(mark for mark in marks.values() if mark)
    wholes = {text: _or_nothing(_content, text) for text, mark in marks.items() if often[mark] > 1}
    again = Counter(wholes.values())
    return [label if (label := wholes.get(text, "")) and again[label] > 1 else "" for text in texts]


def _or_nothing(look: Callable[[Path], str], cell: str) -> str:
    """What a look at the file of a cell gives, "" where it cannot be read."""
    path = data_file(Path(cell))
    try:
        return look(path) if path.is_file() else ""
    except (OSError, EOFError, ValueError, zlib.error):
        return ""


def _content(path: Path) -> str:
    """sha256 of the unpacked content of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        packed = raw.read(2) == MAGIC
    with gzip.open(path) if packed else path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()[:_DIGITS]
