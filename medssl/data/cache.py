"""Preprocessed scans on disk: content-addressed, memory-mapped, written whole or not at all.

An entry is named by what it was made from (every file's path, size and time of change, the preprocessing recipe
and its version), so a changed scan or recipe is another entry and a stale one is never read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from medssl.data.parts import is_grid, part_bytes
from medssl.data.pool import in_order
from medssl.data.preprocess import Preprocessing
from medssl.data.reference import parse
from medssl.data.volume import read_header, read_volume
from medssl.errors import UserError, VolumeError
from medssl.files import TEMPORARY_SUFFIX, is_abandoned, write_atomic

Images = tuple[Path, ...]
_REMEDY = "point $MEDSSL_CACHE (data.cache) to another disk"
_LISTED = 10
"""Bad scans that a message names before it only counts."""


class BuildCounts(NamedTuple):
    """Entries written by this build, and entries that were there already."""

    built: int
    present: int


class CacheUsage(NamedTuple):
    """Finished entries, the bytes of all files, and leftovers of killed processes."""

    entries: int
    bytes: int
    temporaries: int


@dataclass(frozen=True, init=False)
class VolumeCache:
    """Entries ``root/ab/abcd....npy``, float32 (C, D, H, W), safe to share between processes.

    root: None for $MEDSSL_CACHE, else ~/.cache/medssl. content: identify files by the sha256 of their bytes instead
    of path, size and time of change; slower, but copies on other machines or paths share entries.
    """

    root: Path
    content: bool

    def __init__(self, root: Path | str | None = None, content: bool = False) -> None:
        chosen = root or os.environ.get("MEDSSL_CACHE") or Path("~/.cache/medssl")
        object.__setattr__(self, "root", Path(chosen).expanduser().absolute())
        object.__setattr__(self, "content", content)

    def key(self, images: Sequence[Path | str], prep: Preprocessing) -> str:
        """sha256 hex of the files' identities and the recipe. Errors: VolumeError where a file is absent."""
        identity = [_content(Path(image)) if self.content else parse(image).stamp() for image in images]
        return hashlib.sha256("\n".join([prep.digest, *identity]).encode()).hexdigest()

    def path(self, key: str) -> Path:
        """File of an entry, there or not."""
        return self.root / key[:2] / f"{key}.npy"

    def load(self, images: Sequence[Path | str], prep: Preprocessing) -> np.ndarray:
        """The preprocessed scan as read-only memory map, float32 (C, D, H, W); several files are its channels.

        An absent or damaged entry is built first. Errors: VolumeError naming the file, UserError (no space left).
        """
        entry = self.path(self.key(images, prep))
        stored = _open(entry)
        if stored is None:
            self._write(images, prep)
            entry = self.path(self.key(images, prep))
            stored = _open(entry)
        if stored is None:
            raise UserError(f"{entry} was removed while it was read; leave the cache alone while it is used, run again")
        return stored

    def build(
        self,
        images: Iterable[Sequence[Path | str]],
        prep: Preprocessing,
        workers: int | None = None,
        progress: bool = True,
        where: Sequence[str] | None = None,
    ) -> BuildCounts:
        """Write the missing or damaged entries of many scans; what is there already is skipped.

        workers: processes, None for one per processor, 0 or 1 for none. progress: bar on stderr if that is a
        terminal. where: what messages call each scan. All scans are tried before bad ones are reported.
        Errors: VolumeError listing the bad scans, UserError where the disk is full.
        """
        scans = [tuple(Path(image) for image in group) for group in images]
        names = list(where) if where is not None else [""] * len(scans)
        bad: list[str] = []
        jobs: dict[str, int] = {}
        present: set[str] = set()
        for k, group in enumerate(scans):
            try:
                key = self.key(group, prep)
            except VolumeError as error:
                bad.append(_named(names[k], error))
                continue
            if key not in jobs and key not in present:
                if _open(self.path(key)) is None:
                    jobs[key] = k
                else:
                    present.add(key)
        order = list(jobs.values())
        try:
            said = in_order(_build_one, [(self, scans[k], prep) for k in order], workers, progress, "caching scans")
        except BrokenProcessPool as error:
            raise UserError(
                f"a process that filled the cache {self.root} was stopped from outside, most often for lack of memory; "
                "run it again with fewer workers (finished entries are kept)"
            ) from error
        bad += [_named(names[k], text) for k, text in zip(order, said, strict=True) if text]
        if bad:
            more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
            raise VolumeError(f"{len(bad)} of {len(scans)} scans cannot be used: {'; '.join(bad[:_LISTED])}{more}")
        return BuildCounts(len(order), len(present))

    def common_shape(
        self, images: Iterable[Sequence[Path | str]], prep: Preprocessing, where: Sequence[str] | None = None
    ) -> tuple[int, int, int, int]:
        """The shape (C, D, H, W) that all scans have after preprocessing, from entries or headers alone.

        Errors: VolumeError naming two scans that differ, and what to set; or where there is no scan.
        """
        first: tuple[int, int, int, int] | None = None
        first_name = ""
        for k, group in enumerate(images):
            shape = self._shape(group, prep)
            name = where[k] if where is not None else str(group[0])
            if first is None:
                first, first_name = shape, name
            elif shape[0] != first[0]:
                raise VolumeError(
                    f"scans have different numbers of channels: {first_name} has {first[0]}, {name} "
                    f"has {shape[0]}; give every scan the same image columns"
                )
            elif shape != first:
                raise VolumeError(
                    f"scans have different shapes after preprocessing: {first_name} is {_by(first[1:])}, {name} is "
                    f"{_by(shape[1:])} voxels; set preprocessing.shape (and preprocessing.spacing where voxel sizes "
                    "differ), such as the larger of the two"
                )
        if first is None:
            raise VolumeError("there is no scan, so no shape; give at least one row with an image")
        return first

    def prune(self, keep: set[str] | None = None) -> CacheUsage:
        """Remove entries whose key is not in ``keep`` (None: all) and what killed processes left; returns what went."""
        entries = size = temporaries = 0
        for file in self._files():
            temporary = file.name.endswith(TEMPORARY_SUFFIX)
            if not is_abandoned(file) if temporary else keep is not None and file.stem in keep:
                continue
            try:
                size += file.stat().st_size
                file.unlink()
            except FileNotFoundError:
                continue
            entries, temporaries = entries + (not temporary), temporaries + temporary
        return CacheUsage(entries, size, temporaries)

    def usage(self) -> CacheUsage:
        """What the cache holds."""
        files = [(file, file.stat().st_size) for file in self._files() if file.exists()]
        temporaries = sum(file.name.endswith(TEMPORARY_SUFFIX) for file, _ in files)
        return CacheUsage(len(files) - temporaries, sum(size for _, size in files), temporaries)

    def _files(self) -> list[Path]:
        """Entries and temporaries; nothing else below the root is ever touched."""
        entries = [p for p in self.root.glob("[0-9a-f][0-9a-f]/*.npy") if _is_key(p.stem)]
        temporaries = list(self.root.glob(f"[0-9a-f][0-9a-f]/.*.npy.*{TEMPORARY_SUFFIX}"))
        return sorted(entries) + sorted(temporaries)

    def _write(self, images: Sequence[Path | str], prep: Preprocessing) -> None:
        """Preprocess a scan and write its entry; a file that changes meanwhile is an error, not an entry."""
        key = self.key(images, prep)
        _refuse_no_grid(images, prep)
        parts = [prep.apply(read_volume(image)) for image in images]
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            listed = ", ".join(f"{Path(i).name} {_by(p.shape[1:])}" for i, p in zip(images, parts, strict=True))
            raise VolumeError(
                f"the images of one scan have different shapes ({listed}); set preprocessing.spacing and .shape"
            )
        if self.key(images, prep) != key:
            raise VolumeError(f"{images[0]} changed while it was read; wait until it is complete and run again")
        x_CDHW = np.ascontiguousarray(np.concatenate(parts), dtype="<f4")
        write_atomic(self.path(key), lambda file: npy.write_array(file, x_CDHW, version=(1, 0)), _REMEDY)

    def _shape(self, images: Sequence[Path | str], prep: Preprocessing) -> tuple[int, int, int, int]:
        """Shape of one scan after preprocessing, without reading voxels."""
        stored = _open(self.path(self.key(images, prep)))
        if stored is not None:
            c, d, h, w = stored.shape
            return c, d, h, w
        _refuse_no_grid(images, prep)
        headers = [read_header(image) for image in images]
        return sum(header.channels for header in headers), *prep.output_shape(*headers[0].ras)


def _build_one(job: tuple[VolumeCache, Images, Preprocessing]) -> str:
    """Build one entry; what is wrong with the scan, or ""."""
    cache, images, prep = job
    try:
        cache._write(images, prep)
    except VolumeError as error:
        return str(error)
    return ""


def _open(entry: Path) -> np.memmap | None:
    """Memory map of an entry, None where it is absent or damaged (another header or length than it must have)."""
    try:
        with open(entry, "rb") as file:
            if npy.read_magic(file) != (1, 0):
                return None
            shape, fortran, dtype = npy.read_array_header_1_0(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
            if fortran or dtype != np.dtype("<f4") or len(shape) != 4 or size != offset + 4 * int(np.prod(shape)):
                return None
            return np.memmap(file, dtype, "r", offset, shape)
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return None


def _content(image: Path) -> str:
    """sha256 hex of the bytes of a file, or of the values of a part of one."""
    try:
        reference = parse(image)
        if reference.part:
            return hashlib.sha256(part_bytes(reference)).hexdigest()
        return hashlib.sha256(image.read_bytes()).hexdigest()
    except OSError as error:
        raise VolumeError(f"{image} cannot be read ({error.strerror}); correct the path or drop the row") from error


def _refuse_no_grid(images: Sequence[Path | str], prep: Preprocessing) -> None:
    """Surfaces and regional measures have no voxel size, so they are neither resampled nor cropped."""
    for reference in map(parse, images):
        if not is_grid(reference) and (prep.spacing is not None or prep.shape is not None):
            raise VolumeError(
                f"{reference.name} has no voxels that could be resampled or cropped; set preprocessing.spacing=null "
                "and preprocessing.shape=null"
            )


def _is_key(stem: str) -> bool:
    return len(stem) == 64 and set(stem) <= set("0123456789abcdef")


def _named(name: str, error: object) -> str:
    return f"{name}: {error}" if name else str(error)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
