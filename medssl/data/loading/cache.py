"""Preprocessed scans on disk: content-addressed, memory-mapped, written whole or not at all.

An entry is named by what it was made from (every file's path, size and time of change, the preprocessing recipe
and its version, the type of its numbers), so a changed scan or recipe is another entry and a stale one is never read.
It carries checksums (``entry_file``): one whose bytes changed is noticed when it is first read, said, and built again.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medssl.data.loading.cache_entries import BuildCounts, CacheUsage, by, few_bad, same_shape, usual_shape
from medssl.data.loading.cache_folder import cache_usage, faults, prune_cache, repaired
from medssl.data.loading.entry_file import DTYPES, Layout, fault, header_fault, layout, memory_map, write_entry
from medssl.data.loading.pool import in_order
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.reference import Stamps, parse, stamp
from medssl.data.volumes.stored_arrays import content_crc, content_digest, is_grid
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import ScanWarning, UserError, VolumeError
from medssl.files import is_encodable, write_atomic

Images = tuple[Path | str, ...]
_REMEDY = "point $MEDSSL_CACHE (data.cache) to another disk"
_HALF_MOST = float(np.finfo(np.float16).max)


class Prepared(NamedTuple):
    """Keys of scans that are all in the cache, in their order, and their common shape (C, D, H, W).

    sources: CRC-32 of the files that each entry was made from. marks: what copies of each scan share.
    """

    keys: list[str]
    shape: tuple[int, int, int, int]
    counts: BuildCounts
    sources: list[int]
    marks: list[str]


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
        root = Path(chosen).expanduser().absolute()
        if not is_encodable(str(root)):  # torch maps files by names in UTF-8
            raise UserError(f"the folder of the cache, {str(root)!a}, has a name that is not UTF-8; choose another")
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "dtype", dtype)

    def key(self, images: Sequence[Path | str], prep: Preprocessing) -> str:
        """sha256 hex of the files' identities and the recipe. Errors: VolumeError where a file is absent."""
        return self._key(images, self._recipe(prep), Stamps())

    def keys(self, images: Iterable[Sequence[Path | str]], prep: Preprocessing) -> list[str]:
        """``key`` of many scans; those of which a file is absent are left out."""
        recipe, stamps, keys = self._recipe(prep), Stamps(), []
        for group in images:
            with suppress(VolumeError):
                keys.append(self._key(group, recipe, stamps))
        return keys

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

        An absent or damaged entry is built first (a damaged one with a ScanWarning).
        Errors: VolumeError naming the file, UserError (no space left, or damaged again at once).
        """
        entry = self.path(self.key(images, prep))
        stored = memory_map(entry, self.dtype)
        if stored is None:
            if wrong := fault(entry, self.dtype):
                warnings.warn(repaired({entry: (wrong, str(images[0]))}), ScanWarning, stacklevel=2)
            self._write(images, prep)
            entry = self.path(self.key(images, prep))
            stored = memory_map(entry, self.dtype)
        if stored is None:
            raise UserError(lost(entry, fault(entry, self.dtype)))
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

        Damage is seen in header and length here, in the numbers when they are read (or by ``drop_damaged``).

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
        layouts: dict[str, Layout] = {}
        counts, keys = self._filled(scans, prep, workers, progress, names, layouts, stamps or Stamps(), failed)
        for key in dict.fromkeys(keys).keys() - layouts.keys():
            found = layout(self.path(key), self.dtype)
            if found is None:
                raise UserError(lost(self.path(key), header_fault(self.path(key), self.dtype)))
            layouts[key] = found
        shapes = [layouts[key].shape for key in keys]
        said = where if where is not None else [str(group[0]) for group in scans]
        if failed is not None:
            good = [k for k in range(len(scans)) if k not in failed]
            usual, odd = usual_shape(shapes, [scans[k][0] for k in good])
            failed.update((good[k], text) for k, text in odd.items())
            keys = [key for k, key in enumerate(keys) if k not in odd]
        else:
            usual = same_shape(shapes, said)
        return Prepared(keys, usual, counts, [layouts[key].source for key in keys], [layouts[key].mark for key in keys])

    def _filled(
        self,
        scans: Sequence[Images],
        prep: Preprocessing,
        workers: int | None,
        progress: bool,
        names: Sequence[str],
        layouts: dict[str, Layout],
        stamps: Stamps,
        failed: dict[int, str] | None = None,
    ) -> tuple[BuildCounts, list[str]]:
        """``build``, and all keys; ``layouts`` takes those of entries that were there. failed: see ``prepare``."""
        bad: dict[int, str] = {}
        faulty: dict[Path, tuple[str, str]] = {}
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
            if key not in jobs and key not in layouts:
                found = layout(f"{root}/{key[:2]}/{key}.npy", self.dtype)
                if found is not None:
                    layouts[key] = found
                    continue
                jobs[key] = k
                if wrong := header_fault(self.path(key), self.dtype):
                    faulty[self.path(key)] = wrong, str(group[0])
        present = len(layouts)
        if faulty:
            warnings.warn(repaired(faulty), ScanWarning, stacklevel=3)
        order = list(jobs.values())
        try:
            said = in_order(_build_one, [(self, scans[k], prep) for k in order], workers, progress, "caching scans")
        except BrokenProcessPool as error:
            raise UserError(
                f"a process that filled the cache {self.root} was stopped from outside, most often for lack of memory; "
                "run it again with fewer workers (finished entries are kept)"
            ) from error
        unusable = {keys[k]: text for k, text in zip(order, said, strict=True) if text}
        bad |= {
            k: unusable[key] for k, key in enumerate(keys) if key in unusable and (failed is not None or k == jobs[key])
        }
        if bad and (failed is None or len(bad) == len(scans)):
            ordered = sorted(bad, key=lambda k: (bool(keys[k]), k))  # what is absent first
            raise VolumeError(few_bad([_named(names[k], bad[k]) for k in ordered], len(scans)))
        if failed is not None:
            failed |= bad
            keys = [key for k, key in enumerate(keys) if k not in bad]
        return BuildCounts(len(order) - len(unusable), present), keys

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
        return prune_cache(self.root, keep)

    def usage(self) -> CacheUsage:
        """What the cache holds."""
        return cache_usage(self.root)

    def drop(self, keys: Iterable[str]) -> None:
        """Remove these entries."""
        for key in keys:
            self.path(key).unlink(missing_ok=True)

    def drop_damaged(self, keys: Iterable[str], workers: int | None = None, progress: bool = True) -> dict[Path, str]:
        """Read these entries, remove those that are not as they were written, and return what was wrong with them."""
        wrong = faults([self.path(key) for key in dict.fromkeys(keys)], self.dtype, workers, progress)
        for entry in wrong:
            entry.unlink(missing_ok=True)
        return wrong

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
        source = 0
        for image in images:
            source = content_crc(Path(image), source)
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
        write_atomic(self.path(key), lambda file: write_entry(file, x_CDHW, key, source), _REMEDY)

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


def lost(entry: Path, wrong: str) -> str:
    """What is said of an entry that is absent or damaged right after it was written."""
    if not wrong:
        return f"{entry} was removed while it was read; leave the cache alone while it is used, run again"
    return f"{entry} has {wrong} right after it was written; check the disk, or {_REMEDY}"


def _named(name: str, error: object) -> str:
    return f"{name}: {error}" if name else str(error)
