"""The scans of a training: prepared into the cache and compared with those of the test splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import numpy as np

from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.contents import Began, Contents
from medssl.data.loading.leaks import held_out_marks, refuse_copies, refuse_table_copies
from medssl.data.manifest.cohort import Cohort, Images
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.reference import Stamps, summary
from medssl.distributed import process_is_first
from medssl.errors import VolumeError
from medssl.files import in_turn
from medssl.recipe.cohort import TrainingCohort
from medssl.recipe.model import Recipe
from medssl.training.hardware.device import processes

Fits = Callable[[tuple[int, ...]], None]
"""Refuses a shape (C, D, H, W) that views, encoder or method cannot take."""


@dataclass(frozen=True)
class TrainingScans:
    """What a training reads. shape: (C, D, H, W) of all. marks: of the training rows (medssl.data.manifest.copies).

    Of scans: the cache, and of every row of the cohort its files and the key of its entry (both empty where it is not
    trained on), and contents, the checksums of the training scans. Of a table: values (scans, F).
    """

    shape: tuple[int, ...]
    marks: tuple[str, ...]
    files_digest: str
    cache: VolumeCache | None = None
    files: tuple[Images, ...] = ()
    keys: tuple[str, ...] = ()
    contents: Contents | None = None
    values_NF: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def prepare_scans(
    recipe: Recipe,
    people: TrainingCohort,
    preprocessing: Preprocessing,
    fits: Fits,
    began: Began | None,
    progress: bool,
) -> TrainingScans:
    """Preprocess the training scans into the cache, or take the measures of a table.

    Scans of the test splits are prepared too where they can be, and compared: nothing else is done with them.
    fits: asked with the shape of the first scan, by its header, before a scan is read. Errors: UserError for unequal
    shapes, unreadable scans, scans that are others than those of the run that is continued, and for one that is also in
    a test split.
    """
    if people.columns is not None:
        return _measures(people, fits)
    cohort, rows, stamps = people.cohort, people.rows, Stamps()
    cache = VolumeCache(recipe.data.cache, dtype=recipe.data.cache_dtype)
    used = cohort.files(rows, recipe.data.images)
    cohort.subset(rows).check_files(stamps)
    where = cohort.names(rows)
    with suppress(VolumeError):  # which the reading of all scans tells with the others
        fits(cache.common_shape(used[:1], preprocessing, where[:1]))
    bar = progress and process_is_first()
    before = None if began is None else began.contents
    if before is not None and began is not None:
        before = before.still(used, where, stamps, began.run, bar)
    several = processes(recipe.trainer) > 1  # one of them fills the cache, the others find it full
    with in_turn(cache.root / ".build.lock") if several else nullcontext():
        made = cache.prepare(used, preprocessing, workers=None, progress=bar, where=where, stamps=stamps)
        stale = [] if before is None else before.differing(made.sources)
        if stale:  # made from another file of this name, size and time
            cache.drop(made.keys[k] for k in stale)
            made = cache.prepare(used, preprocessing, workers=None, progress=bar, where=where, stamps=stamps)
        test, test_marks, notes = held_out_marks(
            cohort, recipe.data.images, cache, preprocessing, most=len(rows), progress=bar, stamps=stamps
        )
    files: list[Images] = [()] * len(cohort.table)
    keys = [""] * len(cohort.table)
    for row, group, key in zip(rows, used, made.keys, strict=True):
        files[row], keys[row] = group, key
    return TrainingScans(
        made.shape,
        tuple(made.marks),
        _files_digest(used, False, stamps),
        cache,
        tuple(files),
        tuple(keys),
        before or Contents.of(used, made.sources, stamps),
        notes=(*refuse_copies(cohort, rows, made.marks, test, test_marks), *notes),
    )


def _measures(people: TrainingCohort, fits: Fits) -> TrainingScans:
    """The standardised measures of a table."""
    assert people.columns is not None
    values_NF = people.columns.matrix(people.cohort)
    shape = (1, values_NF.shape[1], 1, 1)
    fits(shape)
    marks, notes = refuse_table_copies(people.cohort, people.rows, values_NF)
    nothing = _files_digest([() for _ in people.rows], False, Stamps())
    return TrainingScans(shape, tuple(marks), nothing, values_NF=values_NF, notes=tuple(notes))


def scans_digest(cohort: Cohort, rows: Iterable[int], images: Sequence[str], times: bool = False) -> str:
    """sha256 over names and sizes of the scans of these rows; with ``times`` also over when they were changed."""
    return _files_digest(cohort.files(np.fromiter(rows, dtype=int), images), times, Stamps())


def _files_digest(groups: Iterable[Images], times: bool, stamps: Stamps) -> str:
    sha = hashlib.sha256()
    for group in groups:
        for path in group:
            sha.update(f"{summary(path, times, stamps)}\n".encode())
    return sha.hexdigest()
