"""Preprocessed scans on disk: content-addressed, memory-mapped, written whole or not at all.

An entry is named by what it was made from (every file's path, size and time of change, the preprocessing recipe
and its version, the type of its numbers), so a changed scan or recipe is another entry and a stale one is never read.
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

from medssl.data.entries import (
    DTYPES,
    BuildCounts,
    CacheUsage,
    by,
    few_bad,
    layout,
    memory_map,
    same_shape,
    usual_shape,
)
from medssl.data.parts import content_digest, is_grid
from medssl.data.pool import in_order
from medssl.data.preprocess import Preprocessing
from medssl.data.reference import Stamps, parse, stamp
from medssl.data.volume import read_header, read_volume
from medssl.errors import UserError, VolumeError
from medssl.files import TEMPORARY_SUFFIX, is_abandoned, write_atomic

Images = tuple[Path | str, ...]
_REMEDY = "point $MEDSSL_CACHE (data.cache) to another disk"
_HALF_MOST = float(np.finfo(np.float16).max)


class Prepared(NamedTuple):
    """Keys of scans that are all in the cache, in their order, and their common shape (C, D, H, W)."""

    keys: list[str]
    shape: tuple[int, int, int, int]
    counts: BuildCounts


@dataclass(frozen=True, init=False)
class VolumeCache:
    """Entries ``root/ab/abcd....npy``, (C, D, H, W), safe to share between processes.

    root: None for $MEDSSL_CACHE, else ~/.cache/medssl. content: identify files by the sha256 of their bytes instead
    of path, size and time of change; slower, but copies on other machines or paths share entries. dtype: "float32",
    or "float16" for half the space and half the bytes per read: every value is off by at most 2^-11 (0.05 %) of
    itself, which is 0.002 at a z-score of 4 (and below 3e-8 absolute near 0); it is read back as float32.
    """

    root: Path
    content: bool
    dtype: str

    def __init__(self, root: Path | str | None = None, content: bool = False, dtype: str = "float32") -> None:
        chosen = root or os.environ.get("MEDSSL_CACHE") or Path("~/.cache/medssl")
        if dtype not in DTYPES:
            raise UserError(f"data.cache_dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
        object.__setattr__(self, "root", Path(chosen).expanduser().absolute())
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "dtype", dtype)

    def key(self, images: Sequence[Path | str], prep: Preprocessing) -> str:
        """sha256 hex of the files' identities and the recipe. Errors: VolumeError where a file is absent."""
        return self._key(images, self._recipe(prep), Stamps())

    def _recipe(self, prep: Preprocessing) -> str:
        return prep.digest + ("" if self.dtype == "float32" else f" {self.dtype}")

    def _key(self, images: Sequence[Path | str], recipe: str, stamps: Stamps) -> str:
        identity = [content_digest(Path(image)) if self.content else stamp(image, stamps) for image in images]
        return hashlib.sha256("\n".join([recipe, *identity]).encode()).hexdigest()

    def path(self, key: str) -> Path:
        """File of an entry, there or not."""
        return self.root / key[:2] / f"{key}.npy"

    def load(self, images: Sequence[Path | str], prep: Preprocessing) -> np.ndarray:
        """The preprocessed scan as read-only memory map (C, D, H, W) of ``dtype``; several files are its channels.

        An absent or damaged entry is built first. Errors: VolumeError naming the file, UserError (no space left).
        """
        entry = self.path(self.key(images, prep))
        stored = memory_map(entry, self.dtype)
        if stored is None:
            self._write(images, prep)
            entry = self.path(self.key(images, prep))
            stored = memory_map(entry, self.dtype)
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
        scans = [tuple(group) for group in images]
        names = where if where is not None else [""] * len(scans)
        return self._filled(scans, prep, workers, progress, names, {}, Stamps())[0]

    def prepare(
        self,
        images: Iterable[Sequence[Path | str]],
        prep: Preprocessing,
        workers: int | None = None,
        progress: bool = True,
        where: Sequence[str] | None = None,
        stamps: Stamps | None = None,
        failed: dict[int, str] | None = None,
    ) -> Prepared:
        """``build`` and ``common_shape`` in one pass over the files; stamps: what is known of them already.

        failed: takes place -> reason of scans that cannot be used, or whose shape is not that of most, which are then
        left out (keys are those of the others) instead of raised.
        Errors: those of both; VolumeError where no scan can be used.
        """
        scans = [tuple(group) for group in images]
        names = where if where is not None else [""] * len(scans)
        shapes: dict[str, tuple[int, int, int, int]] = {}
        counts, keys = self._filled(scans, prep, workers, progress, names, shapes, stamps or Stamps(), failed)
        for key in dict.fromkeys(keys).keys() - shapes.keys():
            found = layout(self.path(key), self.dtype)
            if found is None:
                raise UserError(f"{self.path(key)} was removed meanwhile; leave the cache alone while it is used")
            shapes[key] = found.shape
        said = where if where is not None else [str(group[0]) for group in scans]
        if failed is not None:
            good = [k for k in range(len(scans)) if k not in failed]
            usual, odd = usual_shape([shapes[key] for key in keys], [scans[k][0] for k in good])
            failed.update((good[k], text) for k, text in odd.items())
            return Prepared([key for k, key in enumerate(keys) if k not in odd], usual, counts)
        return Prepared(keys, same_shape([shapes[key] for key in keys], said), counts)

    def _filled(
        self,
        scans: Sequence[Images],
        prep: Preprocessing,
        workers: int | None,
        progress: bool,
        names: Sequence[str],
        shapes: dict[str, tuple[int, int, int, int]],
        stamps: Stamps,
        failed: dict[int, str] | None = None,
    ) -> tuple[BuildCounts, list[str]]:
        """``build``, and all keys; ``shapes`` takes the shapes of entries that were there. failed: see ``prepare``."""
        bad: dict[int, str] = {}
        jobs: dict[str, int] = {}
        recipe, root = self._recipe(prep), str(self.root)
        keys: list[str] = []
        for k, group in enumerate(scans):
            try:
                key = self._key(group, recipe, stamps)
            except VolumeError as error:
                bad[k] = str(error)
                keys.append("")
                continue
            keys.append(key)
            if key not in jobs and key not in shapes:
                found = layout(f"{root}/{key[:2]}/{key}.npy", self.dtype)
                if found is None:
                    jobs[key] = k
                else:
                    shapes[key] = found.shape
        present = len(shapes)
        order = list(jobs.values())
        try:
            said = in_order(_build_one, [(self, scans[k], prep) for k in order], workers, progress, "caching scans")
        except BrokenProcessPool as error:
            raise UserError(
                f"a process that filled the cache {self.root} was stopped from outside, most often for lack of memory; "
                "run it again with fewer workers (finished entries are kept)"
            ) from error
        wrong = {keys[k]: text for k, text in zip(order, said, strict=True) if text}
        bad |= {k: wrong[key] for k, key in enumerate(keys) if key in wrong and (failed is not None or k == jobs[key])}
        if bad and (failed is None or len(bad) == len(scans)):
            ordered = sorted(bad, key=lambda k: (bool(keys[k]), k))  # what is absent first
            raise VolumeError(few_bad([_named(names[k], bad[k]) for k in ordered], len(scans)))
        if failed is not None:
            failed |= bad
            keys = [key for k, key in enumerate(keys) if k not in bad]
        return BuildCounts(len(order) - len(wrong), present), keys

    def common_shape(
        self, images: Iterable[Sequence[Path | str]], prep: Preprocessing, where: Sequence[str] | None = None
    ) -> tuple[int, int, int, int]:
        """The shape (C, D, H, W) that all scans have after preprocessing, from entries or headers alone.

        Errors: VolumeError naming two scans that differ, and what to set; or where there is no scan.
        """
        groups = list(images)
        names = where if where is not None else [str(group[0]) for group in groups]
        return same_shape((self._shape(group, prep) for group in groups), names)

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
            listed = ", ".join(f"{Path(i).name} {by(p.shape[1:])}" for i, p in zip(images, parts, strict=True))
            raise VolumeError(
                f"the images of one scan have different shapes ({listed}); set preprocessing.spacing and .shape"
            )
        if self.key(images, prep) != key:
            raise VolumeError(f"{images[0]} changed while it was read; wait until it is complete and run again")
        x_CDHW = np.ascontiguousarray(np.concatenate(parts), dtype="<f4")
        if self.dtype == "float16":
            if np.abs(x_CDHW).max() > _HALF_MOST:
                raise VolumeError(
                    f"{images[0]} has values beyond {_HALF_MOST:,.0f}, the largest float16; set "
                    "data.cache_dtype=float32 or preprocessing.intensity=zscore"
                )
            x_CDHW = x_CDHW.astype("<f2")
        write_atomic(self.path(key), lambda file: npy.write_array(file, x_CDHW, version=(1, 0)), _REMEDY)

    def _shape(self, images: Sequence[Path | str], prep: Preprocessing) -> tuple[int, int, int, int]:
        """Shape of one scan after preprocessing, without reading voxels."""
        stored = layout(self.path(self.key(images, prep)), self.dtype)
        if stored is not None:
            return stored.shape
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
