"""One scan under two names in a cohort: refused on both sides of a split, said on one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.dataset import ScanDataset
from medssl.data.manifest.cohort import Cohort, Images
from medssl.data.manifest.copies import mark, repeats
from medssl.data.manifest.groups import held_out_rows, refuse_twins
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.reference import Stamps
from medssl.errors import VolumeError, count

_ROUNDING = 0.1
"""Years by which two ages of one scan may differ."""


def refuse_copies(
    cohort: Cohort,
    train: np.ndarray,
    marks: Sequence[str],
    test: np.ndarray,
    test_marks: Sequence[str],
    columns: bool = False,
) -> list[str]:
    """Notes on scans that are in train twice; ManifestError for one that is in train and in a test split.

    train, test: rows. marks, test_marks: their ``medssl.data.manifest.copies.mark``. columns: what is trained on are
    features.
    """
    what, that = ("features are the same", "those") if columns else ("scan is the same image", "that")
    refuse_twins(cohort, train, marks, test, test_marks, f"{what} as {that}")
    twice = repeats(marks)
    if not twice:
        return []
    pairs = [(int(train[one]), int(train[other])) for other, one in twice]
    people = sum(cohort.table["subject"].iloc[a] != cohort.table["subject"].iloc[b] for a, b in pairs)
    ages = [abs(cohort.table["age"].iloc[a] - cohort.table["age"].iloc[b]) > _ROUNDING for a, b in pairs]
    one, other = next((pair for pair, differs in zip(pairs, ages, strict=True) if differs), pairs[0])
    tail = f", {people} of another person" if people else ""
    tail += f", {sum(ages)} with another age" if any(ages) else ""
    rows, shown = ("row", "has the features") if columns else ("scan", "is the image")
    return [
        f"{len(pairs)} of {count(len(train), f'training {rows}')} {shown} of an earlier one{tail} (such as "
        f"{cohort.where(one)} and {cohort.where(other)}); keep one of them"
    ]


def refuse_table_copies(cohort: Cohort, train: np.ndarray, values_NF: np.ndarray) -> tuple[list[str], list[str]]:
    """Marks of the training rows of a table of features (N, F), and the notes of ``refuse_copies``; its errors."""
    test = held_out_rows(cohort)
    marks, others = ([mark(values_NF[row].reshape(1, -1, 1, 1)) for row in part] for part in (train, test))
    return marks, refuse_copies(cohort, train, marks, test, others, columns=True)


def marks_of(dataset: ScanDataset, rows: Iterable[int]) -> list[str]:
    """The mark of every one of these rows."""
    return [mark(dataset.volume(int(row)).numpy()) for row in rows]


def held_out_marks(
    cohort: Cohort,
    images: Sequence[str],
    cache: VolumeCache,
    preprocessing: Preprocessing,
    most: int,
    progress: bool,
    stamps: Stamps,
) -> tuple[np.ndarray, list[str], list[str]]:
    """Rows of the test splits that can be compared, their marks, and what is to be said of the others.

    Their scans are prepared into the cache, where ``embed`` finds them again; those that cannot be read are left out.
    most: where more than so many are not in the cache yet, only those that are in it are compared.
    """
    rows = held_out_rows(cohort)
    for name in images:
        rows = rows[[isinstance(cell, str) and cell != "" for cell in cohort.table[name].iloc[rows]]]
    groups = cohort.files(rows, images)
    found = [_in_cache(cache, group, preprocessing) for group in groups]
    lacking = found.count(False)
    chosen = [k for k, there in enumerate(found) if there or (there is False and lacking <= most)]
    notes = []
    if lacking > most:
        notes.append(
            f"{lacking} of {count(len(rows), 'test scan')} are not in the cache yet and were not searched for copies "
            f"of training scans, since that is done for {most} at most; `medssl score` prepares and compares them"
        )
    if not len(chosen):
        return rows[:0], [], notes
    failed: dict[int, str] = {}
    try:
        made = cache.prepare([groups[k] for k in chosen], preprocessing, None, progress, stamps=stamps, failed=failed)
    except VolumeError:  # not one can be read
        return rows[:0], [], notes
    kept = [k for place, k in enumerate(chosen) if place not in failed]
    return rows[kept], made.marks, notes


def _in_cache(cache: VolumeCache, images: Images, preprocessing: Preprocessing) -> bool | None:
    """Whether a scan is in the cache; None where its files are absent."""
    try:
        return cache.path(cache.key(images, preprocessing)).is_file()
    except VolumeError:
        return None
